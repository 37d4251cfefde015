import { expect, it } from 'vitest'
import { AgentError, type Clock, type RunId, type RunRecord, silentLog, systemClock, type VmRef } from '../core/index.ts'
import { AfterCycle } from './after-cycle.ts'
import type { JobConfig } from './config/jobs.ts'

const vmOf = (name: string): VmRef => ({ moref: name, name, instanceUuid: `i-${name}`, biosUuid: 'b', vcenterUuid: 'v', path: `/${name}` })
const jobOf = (name: string, repository = 'r', copyTo: readonly string[] = []): JobConfig =>
  ({ name, repository, copyTo }) as unknown as JobConfig
const recordOf = (vm: string, result: RunRecord['result'] = 'succeeded'): RunRecord =>
  ({ run: 'r' as RunId, vm: vmOf(vm), result, repository: '', notProtected: [], warnings: [] }) as unknown as RunRecord

type Options = {
  readonly busy?: Set<string>
  readonly fail?: () => Error | undefined
  readonly hold?: (job: string) => Promise<void> | undefined
}

function world(options: Options = {}) {
  const done: string[] = []
  const busy = options.busy ?? new Set<string>()
  let now = 0
  let look: () => void | Promise<void> = () => undefined
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => now,
    every: (_ms, run) => {
      look = run
      return { [Symbol.dispose]: () => (look = () => undefined) }
    },
  }
  const follower = new AfterCycle(
    [
      {
        name: 'first',
        wanted: () => true,
        work: async ({ name }) => {
          await options.hold?.(name)
          const error = options.fail?.()
          if (error !== undefined) throw error
        },
      },
      {
        name: 'second',
        wanted: ({ name }) => name !== 'unwanted',
        work: async (job, vms) => void done.push(`${job.name}: ${vms.map(({ name }) => name).join(' ')}`),
      },
    ],
    (repository) => busy.has(repository),
    { clock, log: silentLog },
  )
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  return {
    done,
    busy,
    after: async (record: RunRecord, job: JobConfig | undefined) => {
      await follower.after({ record, job }, {})
      await turn()
    },
    pass: async (ms: number) => {
      now += ms
      await look()
      await turn()
    },
    settled: () => follower.settled(),
  }
}

it('waits until nothing writes to the repository, and takes all VMs with a new point at once', async () => {
  const { done, busy, after } = world({ busy: new Set(['r']) })
  await after(recordOf('a'), jobOf('j'))
  await after(recordOf('b', 'failed'), jobOf('j'))
  await after(recordOf('c'), jobOf('j'))
  await after(recordOf('x'), jobOf('other', 'elsewhere'))
  expect(done).toEqual(['other: x'])
  busy.delete('r')
  await after(recordOf('d', 'failed'), jobOf('j'))
  expect(done).toEqual(['other: x', 'j: a c'])
  await after(recordOf('d', 'canceled'), jobOf('j'))
  await after(recordOf('e'), undefined)
  await after(recordOf('e'), jobOf('unwanted'))
  expect(done).toHaveLength(2)
})

it('looks by itself whether what kept it waiting is over', async () => {
  const { done, busy, after, pass } = world({ busy: new Set(['r']) })
  await after(recordOf('a'), jobOf('j'))
  // A run that waited and was dropped ends without a word.
  busy.delete('r')
  await pass(15_000)
  expect(done).toEqual(['j: a'])
})

it('comes again by the clock with growing pauses when the repository was in use by others, and not when it failed for good', async () => {
  let error: Error | undefined = new AgentError('CONFLICT', 'It is locked.')
  let tries = 0
  const { done, after, pass } = world({ fail: () => (tries++, error) })
  await after(recordOf('a'), jobOf('j'))
  const seen: number[] = []
  for (let minute = 1; minute <= 120; minute++) {
    const before = tries
    await pass(60_000)
    if (tries > before) seen.push(minute)
  }
  expect(seen).toEqual([1, 3, 7, 15, 31, 61, 91])
  error = undefined
  await after(recordOf('b'), jobOf('j'))
  expect(done).toEqual([])
  await pass(60_000)
  expect(done).toEqual(['j: a b'])
  error = new AgentError('UNAVAILABLE', 'It is away.')
  await after(recordOf('c'), jobOf('j'))
  error = undefined
  await pass(3_600_000)
  expect(done).toEqual(['j: a b'])
})

it('a long work keeps nobody waiting but those of the same repositories, and there are not too many at once', async () => {
  const held = Promise.withResolvers<void>()
  const long = new Set(['copies', 'two', 'three'])
  const { done, after, settled } = world({ hold: (job) => (long.has(job) ? held.promise : undefined) })
  await after(recordOf('a'), jobOf('copies', 'main', ['far']))
  await after(recordOf('b'), jobOf('same', 'main'))
  await after(recordOf('b'), jobOf('target', 'far'))
  await after(recordOf('c'), jobOf('other', 'elsewhere'))
  expect(done).toEqual(['other: c'])
  await after(recordOf('d'), jobOf('two', 'r2'))
  await after(recordOf('d'), jobOf('three', 'r3'))
  await after(recordOf('d'), jobOf('four', 'r4'))
  expect(done).toEqual(['other: c'])
  held.resolve()
  await settled()
  expect(done.toSorted()).toEqual(['copies: a', 'four: d', 'other: c', 'same: b', 'target: b', 'three: d', 'two: d'])
})

it('told that no run comes any more, it ends when what it does has ended, and waits for nobody else', async () => {
  const { done, after, settled, pass } = world({ fail: () => new AgentError('CONFLICT', 'It is locked.') })
  await after(recordOf('a'), jobOf('j'))
  await settled()
  await pass(3_600_000)
  expect(done).toEqual([])
})
