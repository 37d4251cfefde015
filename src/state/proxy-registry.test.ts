import { afterAll, beforeAll, expect, it } from 'vitest'
import { describePeer } from '../../test/peer.ts'
import { type Postgres, startPostgres } from '../../test/postgres.ts'
import { silentLog, systemClock } from '../core/index.ts'
import { assertAlive, createProxyDrains, createProxyRegistry, type ProxyEpoch, type ProxyProcess, type ProxyTimes } from './index.ts'
import { BEAT_MS, DEAD_AFTER_MS, FENCE_AFTER_MS } from './proxy-registry.ts'

const web = (agent: string): ProxyProcess => ({
  agent,
  name: `proxy-${agent}`,
  kind: 'agent',
  sites: agent === 'one' ? undefined : ['fra', 'muc'],
  transports: ['san', 'nbdssl'],
  host: `${agent}.example.com`,
  pid: 7,
  bootId: 'b',
  startTime: 9,
})
const QUICK: ProxyTimes = { beatMs: 100, deadAfterMs: 1500, fenceAfterMs: 1000 }

it('stops before others may take over, and is missed twice before that', () => {
  expect(FENCE_AFTER_MS).toBeLessThanOrEqual(DEAD_AFTER_MS - 2 * BEAT_MS)
  expect(FENCE_AFTER_MS).toBeGreaterThan(2 * BEAT_MS)
})

describePeer('postgres', 'ProxyRegistry', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const open = async (database: string, times: Partial<ProxyTimes> = QUICK, patienceMs = 0) => {
    const state = await server.state({ database, patienceMs })
    return { state, registry: createProxyRegistry({ state, clock: systemClock, log: silentLog, times }) }
  }

  it('knows who is alive, and who ended', async () => {
    const a = await open(await server.database())
    await using state = a.state
    const own = await a.registry.register(web('one'))
    const other = await a.registry.register(web('two'))
    expect(other.epoch).toBeGreaterThan(own.epoch)
    expect(await a.registry.list()).toEqual([
      expect.objectContaining({ ...web('one'), epoch: own.epoch, state: 'alive' }),
      expect.objectContaining({ ...web('two'), state: 'alive' }),
    ])
    await systemClock.sleep(QUICK.deadAfterMs + 200)
    expect(await a.registry.declareDead()).toEqual([])
    await own[Symbol.asyncDispose]()
    expect([await a.registry.isAlive(own.epoch), await a.registry.isAlive(other.epoch)]).toEqual([false, true])
    expect(await a.registry.isAlive(999 as ProxyEpoch)).toBe(false)
    expect((await a.registry.list()).map(({ state: each }) => each)).toEqual(['gone', 'alive'])
    await other[Symbol.asyncDispose]()
    await state.get({ sql: 'SELECT 1', decode: () => 1 })
  })

  it('remembers who takes nothing new', async () => {
    await using state = await server.state()
    const drains = createProxyDrains(state)
    expect(await drains.list()).toEqual([])
    await drains.drain('one', 'root')
    await drains.drain('one', 'somebody else')
    expect(await drains.list()).toEqual([{ name: 'one', by: 'root', at: expect.any(Date) }])
    expect([await drains.resume('one'), await drains.resume('one')]).toEqual([true, false])
    expect(await drains.list()).toEqual([])
  })

  it('declares the silent dead, once and for ever; the dead one finds out and stops', async () => {
    const database = await server.database()
    const a = await open(database)
    const b = await open(database, { ...QUICK, beatMs: 60_000, fenceAfterMs: 60_000 })
    await using stack = new AsyncDisposableStack()
    stack.use(a.state)
    stack.use(b.state)
    const alive = stack.use(await a.registry.register(web('one')))
    const silent = stack.use(await b.registry.register(web('two')))
    await systemClock.sleep(QUICK.deadAfterMs + 100)
    expect(await a.registry.isAlive(silent.epoch)).toBe(true)
    const dead = await Promise.all([a.registry.declareDead(), b.registry.declareDead()])
    expect(dead.flat().map(({ epoch }) => epoch)).toEqual([silent.epoch])
    expect(await a.registry.isAlive(silent.epoch)).toBe(false)
    await expect(b.state.transaction('late', (session) => assertAlive(session, silent.epoch))).rejects.toMatchObject({ code: 'CANCELED' })
    await a.state.transaction('in time', (session) => assertAlive(session, alive.epoch))
    expect(silent.fenced.aborted).toBe(false)
    await expect(silent.beat()).rejects.toMatchObject({ code: 'CANCELED' })
    expect(silent.fenced.reason).toMatchObject({ code: 'CANCELED', message: expect.stringContaining('declared dead') })
    await silent[Symbol.asyncDispose]()
    expect((await a.registry.list()).find(({ epoch }) => epoch === silent.epoch)).toMatchObject({ state: 'dead' })
  })

  it('counts the time in which the machine was suspended, and refuses before any timer has run', async () => {
    let slept = 0
    await using state = await server.state()
    const registry = createProxyRegistry({
      state,
      clock: systemClock,
      log: silentLog,
      sinceBootMs: () => systemClock.monotonicMs() + slept,
    })
    await using own = await registry.register(web('one'))
    expect(own.refusal()).toBeUndefined()
    slept = FENCE_AFTER_MS - 1_000
    expect(own.refusal()).toBeUndefined()
    slept = FENCE_AFTER_MS
    expect(own.refusal()).toMatchObject({ code: 'CANCELED', message: expect.stringContaining('could not be reached for 20 s') })
    expect(own.fenced.aborted).toBe(true)
    // For good: a beat that would still arrive changes nothing.
    slept = 0
    await own.beat()
    expect(own.refusal()).toMatchObject({ code: 'CANCELED' })
  })

  it('is not declared dead in the middle of a transaction that asked', async () => {
    const database = await server.database()
    const a = await open(database)
    const b = await open(database, { ...QUICK, beatMs: 60_000, fenceAfterMs: 60_000 })
    await using stack = new AsyncDisposableStack()
    stack.use(a.state)
    stack.use(b.state)
    const silent = stack.use(await b.registry.register(web('two')))
    await systemClock.sleep(QUICK.deadAfterMs + 100)
    const order: string[] = []
    const begun = Promise.withResolvers<void>()
    const change = b.state.transaction('change', async (session) => {
      await assertAlive(session, silent.epoch)
      begun.resolve()
      await systemClock.sleep(300)
      order.push('changed')
    })
    await begun.promise
    await a.registry.declareDead()
    order.push('dead')
    await change
    expect(order).toEqual(['changed', 'dead'])
  })

  it('stops by itself when the database stays away, and nobody is dead for what the server was down', async () => {
    const database = await server.database()
    const a = await open(database, { ...QUICK, deadAfterMs: 2_000 })
    const slow = await open(database, { beatMs: 60_000, deadAfterMs: 2_000, fenceAfterMs: 60_000 })
    await using stack = new AsyncDisposableStack()
    stack.use(a.state)
    stack.use(slow.state)
    const own = stack.use(await a.registry.register(web('one')))
    const other = stack.use(await slow.registry.register(web('two')))
    await server.stop('immediate')
    await systemClock.sleep(2_200)
    expect(own.fenced.reason).toMatchObject({ code: 'CANCELED', message: expect.stringContaining('could not be reached') })
    await server.start()
    expect(await a.registry.declareDead()).toEqual([])
    await other.beat()
    expect(await a.registry.isAlive(other.epoch)).toBe(true)
  })
})
