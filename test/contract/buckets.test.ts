import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { openState } from '../../src/state/index.ts'
import { type Buckets, createMemoryBuckets, createSharedBuckets, type TokenOwner } from '../../src/transport/index.ts'
import { bucketsContract } from './buckets-contract.ts'

bucketsContract(
  'memory',
  async () => {
    const buckets = createMemoryBuckets()
    return { processes: [buckets, buckets], [Symbol.asyncDispose]: async () => undefined }
  },
  { numRuns: 200 },
)

const owner = (pid: number): TokenOwner => ({ pid, bootId: 'this boot', startTime: pid * 10 })

type SharedWorld = AsyncDisposable & {
  /** Process 1 and process 2. */
  readonly processes: readonly [Buckets, Buckets]
  /** Who counts as dead from now on. */
  readonly dead: Set<number>
}

/** A state file that two connections have open, each as a process of its own would. */
async function openShared(): Promise<SharedWorld> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-buckets-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const dead = new Set<number>()
  const open = async (pid: number): Promise<Buckets> => {
    const state = stack.use(await openState(join(directory, 'state.db')))
    const owners = { self: async () => owner(pid), isAlive: async (other: TokenOwner) => !dead.has(other.pid) }
    return createSharedBuckets({ state, clock: systemClock, log: silentLog, owners })
  }
  const processes = [await open(1), await open(2)] as const
  const kept = stack.move()
  return { processes, dead, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

bucketsContract('the state file, by two processes', openShared, { numRuns: 8 })

test('what a dead process had, and what it waited for, is given to those who live', async () => {
  await using world = await openShared()
  const [dying, living] = world.processes.map((buckets) => buckets.tokens('k', 'sessions', 1))
  const inUse = async () => (await world.processes[1].inUse()).flatMap(({ uses }) => uses.map(({ holder, pid }) => [holder, pid]))
  await dying?.take({ holder: 'dead' })
  const never = dying?.take({ holder: 'dead too' })
  await expect.poll(inUse).toHaveLength(2)
  const waiting = living?.take({ holder: 'alive' })
  await expect.poll(inUse).toEqual([
    ['dead', 1],
    ['dead too', 1],
    ['alive', 2],
  ])
  world.dead.add(1)
  const token = await waiting
  expect((await world.processes[1].inUse()).flatMap(({ uses }) => uses)).toEqual([{ holder: 'alive', pid: 2, waits: false }])
  await token?.[Symbol.asyncDispose]()
  await expect(never).rejects.toThrow('struck from the state database')
})

test('a limit that this process has lower than another waits for what the other has too', async () => {
  await using world = await openShared()
  const [wide, narrow] = [world.processes[0].tokens('k', 'sessions', 3), world.processes[1].tokens('k', 'sessions', 2)]
  const held = [await wide.take(), await wide.take(), await wide.take()]
  let got = 0
  const waiting = narrow.take().then((token) => (got++, token))
  await held[0]?.[Symbol.asyncDispose]()
  await systemClock.sleep(500)
  expect(got).toBe(0)
  await held[1]?.[Symbol.asyncDispose]()
  await (await waiting)[Symbol.asyncDispose]()
  await held[2]?.[Symbol.asyncDispose]()
  expect(await world.processes[0].inUse()).toEqual([])
})
