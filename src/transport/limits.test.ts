import { describe, expect, it } from 'vitest'
import { AgentError, silentLog, systemClock } from '../core/index.ts'
import { createLimits } from './limits.ts'
import { createNfcLimits } from './nfc-limits.ts'
import { createMemoryBuckets } from './memory-buckets.ts'

const store = (moref: string) => ({
  moref,
  name: `name of ${moref}`,
  type: 'VMFS',
  url: '',
  capacityBytes: 1,
  freeBytes: 1,
  accessible: true,
})
const deps = { clock: systemClock, log: silentLog }
const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await Promise.resolve()
}

describe('limits', () => {
  it('53 connections through one vCenter: the 53rd waits, whichever hosts they are to', async () => {
    const buckets = createMemoryBuckets()
    const limits = createNfcLimits({ memoryPerHost: 400 * 2 ** 20 }, buckets)
    const held: AsyncDisposable[] = []
    const connect = async (host: string): Promise<void> => {
      for (const tokens of limits.of('vc', host)) held.push(await tokens.take())
    }
    const all = Array.from({ length: 60 }, (_, index) => connect(`esx${index % 5}`))
    await turns(200)
    const through = (await buckets.inUse()).find(({ name }) => name.includes('through vc'))
    expect([through?.uses.filter(({ waits }) => !waits).length, through?.uses.filter(({ waits }) => waits).length, through?.limit]).toEqual(
      [52, 8, 52],
    )
    while (held.length > 0) {
      for (const token of held.splice(0)) await token[Symbol.asyncDispose]()
      await turns(200)
    }
    await Promise.all(all)
    expect(await buckets.inUse()).toEqual([])
  })

  it('a host’s memory limits its sessions, 4 MiB each; 44 MiB unless it is said', () => {
    const perHost = (settings: Parameters<typeof createNfcLimits>[0]): number | undefined =>
      createNfcLimits(settings).of('vc', 'esx')[0]?.limit
    expect([perHost({}), perHost({ memoryPerHost: 2 ** 23 }), perHost({ perHost: 3 }), perHost({ perHost: 20 })]).toEqual([11, 2, 3, 11])
  })

  it('two VMs on the same two datastores do not wait for each other in a circle', async () => {
    const limits = createLimits({ snapshotsPerDatastore: 1 }, deps)
    const one = limits.of('one')
    const two = limits.of('two')
    expect(await one.snapshot([store('a'), store('b')])).toBe(false)
    const waiting = two.snapshot([store('b'), store('a'), store('b')])
    await turns()
    await one[Symbol.asyncDispose]()
    expect(await waiting).toBe(true)
    await two[Symbol.asyncDispose]()
    expect(await limits.of('three').snapshot([store('a'), store('b')])).toBe(false)
  })

  it('a datastore is the same one in every vCenter that has it, by its URL', async () => {
    const buckets = createMemoryBuckets()
    const [one, other] = [createLimits({}, { ...deps, buckets }), createLimits({}, { ...deps, buckets })]
    await using _one = await one.of('web').stream({ ...store('datastore-7'), url: 'ds:///vmfs/volumes/a/' })
    await using _same = await other.of('db').stream({ ...store('datastore-9'), url: 'ds:///vmfs/volumes/a/' })
    await using _another = await other.of('app').stream({ ...store('datastore-7'), url: 'ds:///vmfs/volumes/b/' })
    expect((await buckets.inUse()).map(({ uses }) => uses.map(({ holder }) => holder))).toEqual([['web', 'db'], ['app']])
  })

  it('a stream waits for its own datastore alone, and a canceled wait takes nothing', async () => {
    const limits = createLimits({ streamsPerDatastore: 1 }, deps)
    const job = limits.of('web')
    await using first = await job.stream(store('a'))
    await using _other = await job.stream(store('b'))
    const gone = new AbortController()
    const waiting = job.stream(store('a'), { signal: gone.signal })
    gone.abort(new AgentError('CANCELED', 'gone'))
    await expect(waiting).rejects.toThrow('gone')
    await first[Symbol.asyncDispose]()
    await using again = await job.stream(store('a'))
    expect(again).toBeDefined()
  })
})
