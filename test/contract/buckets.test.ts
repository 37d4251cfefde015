import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, test } from 'vitest'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { createProxyRegistry, openState, type OwnEpoch } from '../../src/state/index.ts'
import { type Buckets, createMemoryBuckets, createPgBuckets, createSharedBuckets, type TokenOwner } from '../../src/transport/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { bucketsContract } from './buckets-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

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
  const directory = await fastDirectory('vcb-buckets-')
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

describePeer('postgres', 'the state database', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  type ProxiesWorld = AsyncDisposable & {
    readonly processes: readonly [Buckets, Buckets]
    readonly own: readonly [OwnEpoch, OwnEpoch]
    readonly database: string
    /** The process fell silent, and was declared dead. */
    readonly die: (own: OwnEpoch) => Promise<void>
  }
  const open = async (): Promise<ProxiesWorld> => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const proxy = async (pid: number): Promise<{ readonly buckets: Buckets; readonly own: OwnEpoch }> => {
      const state = stack.use(await server.state({ database }))
      const registry = createProxyRegistry({ state, clock: systemClock, log: silentLog })
      const own = stack.use(
        await registry.register({
          agent: `agent ${pid}`,
          name: `proxy${pid}`,
          kind: 'agent',
          sites: undefined,
          transports: [],
          host: `host${pid}`,
          ...owner(pid),
        }),
      )
      return { own, buckets: createPgBuckets({ state, clock: systemClock, log: silentLog, epoch: own.epoch }) }
    }
    const [one, two] = [await proxy(1), await proxy(2)]
    const kept = stack.move()
    const die = async ({ epoch }: OwnEpoch): Promise<void> =>
      void server.sql(`UPDATE vcb.proxy_process SET state = 'dead', ended_at = now() WHERE epoch = ${epoch}`, database)
    return {
      processes: [one.buckets, two.buckets],
      own: [one.own, two.own],
      database,
      die,
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    }
  }

  bucketsContract('PostgreSQL, by two proxies', open, { numRuns: 6 })

  it('gives what a dead proxy had, and what it waited for, to those who live; the dead one gets no more', async () => {
    await using world = await open()
    const [dying, living] = [world.processes[0].tokens('k', 'sessions', 1), world.processes[1].tokens('k', 'sessions', 1)]
    const inUse = async () =>
      (await world.processes[1].inUse()).flatMap(({ uses }) => uses.map(({ holder, host, pid }) => [holder, host, pid]))
    await dying.take({ holder: 'dead' })
    const never = dying.take({ holder: 'dead too' }).catch((error: unknown) => error)
    await expect.poll(inUse).toHaveLength(2)
    const waiting = living.take({ holder: 'alive' })
    await expect.poll(inUse).toEqual([
      ['dead', 'host1', 1],
      ['dead too', 'host1', 1],
      ['alive', 'host2', 2],
    ])
    await world.die(world.own[0])
    const token = await waiting
    expect(await inUse()).toEqual([['alive', 'host2', 2]])
    expect(await never).toMatchObject({ code: 'CANCELED', message: expect.stringContaining('declared dead') })
    await expect(dying.take()).rejects.toMatchObject({ code: 'CANCELED' })
    await token[Symbol.asyncDispose]()
    expect(await inUse()).toEqual([])
  })

  it('is never exceeded by many who ask at once', async () => {
    await using world = await open()
    let [held, most] = [0, 0]
    const three = Promise.withResolvers<void>()
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        await using _token = await world.processes[index % 2 === 0 ? 0 : 1].tokens('k', 'sessions', 3).take()
        most = Math.max(most, ++held)
        if (held === 3) three.resolve()
        await three.promise
        await systemClock.sleep(5)
        held--
      }),
    )
    expect(most).toBe(3)
    expect(await world.processes[0].inUse()).toEqual([])
  })

  it('gets back later what could not be given back while the server was away', async () => {
    await using world = await open()
    const tokens = world.processes[0].tokens('k', 'sessions', 1)
    const held = await tokens.take()
    const state = await server.state({ database: world.database, patienceMs: 100 })
    await using hasty = state
    const own = createPgBuckets({ state: hasty, clock: systemClock, log: silentLog, epoch: world.own[1].epoch })
    const lost = await own.tokens('other', 'things', 1).take()
    await server.stop('immediate')
    await lost[Symbol.asyncDispose]()
    await server.start()
    await held[Symbol.asyncDispose]()
    expect((await own.inUse()).map(({ name }) => name)).toEqual(['things'])
    const next = await own.tokens('third', 'things', 1).take()
    await next[Symbol.asyncDispose]()
    expect(await own.inUse()).toEqual([])
  })
})
