import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, silentLog, systemClock } from '../core/index.ts'
import { createLimits } from './limits.ts'
import { createNfcLimits } from './nfc-limits.ts'
import { createTokens } from './token-bucket.ts'

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

describe('tokens', () => {
  it('are given out in the order asked for, and a wait says who has them', async () => {
    const tokens = createTokens('read streams of datastore nfs1', 2)
    const [one, two] = [await tokens.take({ holder: 'web' }), await tokens.take({ holder: 'db' })]
    const told: string[] = []
    let over = 0
    const order: number[] = []
    const wait = async (id: number): Promise<Disposable> => {
      const token = await tokens.take({ onWait: (text) => (told.push(text), { [Symbol.dispose]: () => over++ }) })
      order.push(id)
      return token
    }
    const [third, fourth] = [wait(3), wait(4)]
    expect(told[0]).toBe('waits for one of the read streams of datastore nfs1: 2 of 2 in use by web, db')
    expect([tokens.inUse, tokens.waiting, over]).toEqual([2, 2, 0])
    one[Symbol.dispose]()
    one[Symbol.dispose]()
    await turns()
    expect([order, tokens.waiting, over]).toEqual([[3], 1, 1])
    two[Symbol.dispose]()
    for (const token of [await third, await fourth]) token[Symbol.dispose]()
    expect([order, tokens.inUse, over]).toEqual([[3, 4], 0, 2])
  })

  it('whatever happens in whatever order, never more than there are, none lost, nobody overtaken', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.record({ what: fc.constantFrom('take', 'give', 'cancel'), index: fc.nat(20) }), { maxLength: 80 }),
        async (limit, steps) => {
          const tokens = createTokens('things', limit)
          const held: Disposable[] = []
          const got: number[] = []
          const asked: { readonly id: number; readonly abort: AbortController; state: 'waits' | 'has' | 'gone' }[] = []
          for (const { what, index } of steps) {
            if (what === 'take') {
              const entry = { id: asked.length, abort: new AbortController(), state: 'waits' as 'waits' | 'has' | 'gone' }
              asked.push(entry)
              void (async () => {
                try {
                  held.push(await tokens.take({ signal: entry.abort.signal }))
                  entry.state = 'has'
                  got.push(entry.id)
                } catch {
                  entry.state = 'gone'
                }
              })()
            } else if (what === 'give') held.splice(index % Math.max(1, held.length), 1)[0]?.[Symbol.dispose]()
            else asked[index % Math.max(1, asked.length)]?.abort.abort(new AgentError('CANCELED', 'gone'))
            await turns()
            expect(held.length).toBeLessThanOrEqual(limit)
            expect(tokens.inUse).toBe(held.length)
            expect(tokens.waiting).toBe(asked.filter(({ state }) => state === 'waits').length)
            if (tokens.waiting > 0) expect(held.length).toBe(limit)
          }
          expect(got).toEqual(got.toSorted((a, b) => a - b))
          while (held.length > 0) {
            held.shift()?.[Symbol.dispose]()
            await turns()
          }
          expect([tokens.inUse, tokens.waiting]).toEqual([0, 0])
        },
      ),
      { seed: 7, numRuns: 300 },
    )
  })
})

describe('limits', () => {
  it('53 connections through one vCenter: the 53rd waits, whichever hosts they are to', async () => {
    const limits = createNfcLimits({ memoryPerHost: 400 * 2 ** 20 })
    const held: Disposable[] = []
    const connect = async (host: string): Promise<void> => {
      for (const tokens of limits.of('vc', host)) held.push(await tokens.take())
    }
    const all = Array.from({ length: 60 }, (_, index) => connect(`esx${index % 5}`))
    await turns(200)
    const through = limits.all.find(({ name }) => name.includes('through vc'))
    expect([through?.inUse, through?.waiting, through?.limit]).toEqual([52, 8, 52])
    while (held.length > 0) {
      for (const token of held.splice(0)) token[Symbol.dispose]()
      await turns(200)
    }
    await Promise.all(all)
    expect(limits.all.map(({ inUse }) => inUse)).toEqual(limits.all.map(() => 0))
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
    one[Symbol.dispose]()
    expect(await waiting).toBe(true)
    two[Symbol.dispose]()
    expect(await limits.of('three').snapshot([store('a'), store('b')])).toBe(false)
  })

  it('a stream waits for its own datastore alone, and a canceled wait takes nothing', async () => {
    const limits = createLimits({ streamsPerDatastore: 1 }, deps)
    const job = limits.of('web')
    using first = await job.stream(store('a'))
    using _other = await job.stream(store('b'))
    const gone = new AbortController()
    const waiting = job.stream(store('a'), { signal: gone.signal })
    gone.abort(new AgentError('CANCELED', 'gone'))
    await expect(waiting).rejects.toThrow('gone')
    first[Symbol.dispose]()
    using again = await job.stream(store('a'))
    expect(again).toBeDefined()
  })
})
