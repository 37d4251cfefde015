import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { describePeer } from '../../test/peer.ts'
import { type Postgres, startPostgres } from '../../test/postgres.ts'
import { type Effect, EFFECT_BEFORE, silentLog, systemClock } from '../core/index.ts'
import { openPgQueue, type WorkItem, type WorkQueue } from './index.ts'
import { FENCE_AFTER_MS } from './proxy-registry.ts'
import { HEARTBEAT_S, MONITOR_S } from './work-queue.ts'

const work = (vm: string, key = `${vm} at 22:00`): WorkItem => ({ key, about: vm, data: { vm } })

it('gives work of a silent proxy away after that stopped, and within a minute', () => {
  expect(HEARTBEAT_S * 1000).toBeGreaterThan(FENCE_AFTER_MS)
  expect(HEARTBEAT_S + 2 * MONITOR_S).toBeLessThanOrEqual(45)
})

describePeer('postgres', 'WorkQueue', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const open = (database: string, more: { readonly heartbeatS?: number; readonly monitorS?: number; readonly patienceMs?: number } = {}) =>
    openPgQueue({
      address: server.address(database),
      clock: systemClock,
      log: silentLog,
      name: 'test',
      supervise: true,
      ...more,
    })

  it('gives each work to exactly one, whoever asks at once, and never again when it is done', async () => {
    const database = await server.database()
    await using stack = new AsyncDisposableStack()
    const queues: WorkQueue[] = []
    for (let index = 0; index < 3; index++) queues.push(stack.use(await open(database)))
    const vms = Array.from({ length: 60 }, (_, index) => `vm${index}`)
    const got: string[] = []
    await Promise.all(
      queues.map(async (queue) => {
        for (const vm of vms) {
          const taken = await queue.take(work(vm))
          if (taken === undefined) continue
          got.push(vm)
          await queue.done(taken)
        }
      }),
    )
    expect(got.toSorted()).toEqual(vms.toSorted())
    expect(await Promise.all(queues.map((queue) => queue.take(work('vm7'))))).toEqual([undefined, undefined, undefined])
  })

  it('lets one work about a VM run at a time, and gives it back when it was not done', async () => {
    const database = await server.database()
    await using one = await open(database)
    await using two = await open(database)
    const seen: string[] = []
    const listener = (message: unknown): void => void seen.push((message as Effect).what)
    subscribe(EFFECT_BEFORE, listener)
    const first = await one.take(work('web'))
    unsubscribe(EFFECT_BEFORE, listener)
    expect(seen).toContain('queue')
    if (first === undefined) throw new Error('nothing taken')
    expect(await two.take(work('web'))).toBeUndefined()
    expect(await two.take(work('web', 'web at 23:00'))).toBeUndefined()
    await one.giveUp(first)
    await one.giveUp(first)
    const second = await two.take(work('web'))
    expect(second).toEqual({ id: first.id, before: 0 })
    if (second === undefined) throw new Error('nothing taken')
    await two.done(second)
    await two.done(second)
    expect(await one.take(work('web'))).toBeUndefined()
    expect(await one.take(work('web', 'web at 23:00'))).toMatchObject({ before: 0 })
  })

  it('gives to another what nobody keeps, and keeps what is kept', async () => {
    const database = await server.database()
    // pg-boss takes no less than ten seconds.
    await using dying = await open(database, { heartbeatS: 10, monitorS: 1 })
    await using living = await open(database, { heartbeatS: 10, monitorS: 1 })
    const began = systemClock.monotonicMs()
    const [lost, kept, old] = [
      await dying.take(work('lost')),
      await dying.take(work('kept')),
      await dying.take(work('old', 'old at 21:00')),
    ]
    if (lost === undefined || kept === undefined || old === undefined) throw new Error('nothing taken')
    using _keeps = systemClock.every(
      2_000,
      () => dying.keep([kept]),
      (error) => {
        throw error
      },
    )
    const taken = await expect
      .poll(() => living.take(work('lost')), { timeout: 40_000, interval: 300 })
      .toBeDefined()
      .then(() => systemClock.monotonicMs() - began)
    expect(taken).toBeLessThan(38_000)
    expect(taken).toBeGreaterThan(9_000)
    expect(await living.take(work('kept'))).toBeUndefined()
    // Its moment is over: what is asked for now is another work about the same VM.
    await expect.poll(() => living.take(work('old', 'old at 22:00')), { timeout: 10_000, interval: 300 }).toMatchObject({ before: 0 })
    // What the dead one says too late changes nothing.
    await dying.keep([lost])
    await dying.done(old)
    expect(await living.take(work('old', 'old at 23:00'))).toBeUndefined()
  })

  it('leaves work that runs for days to who keeps it', async () => {
    const database = await server.database()
    await using one = await open(database, { monitorS: 1 })
    await using two = await open(database, { monitorS: 1 })
    const taken = (await one.take(work('large'))) ?? expect.fail()
    const forgotten = (await two.take(work('other'))) ?? expect.fail()
    // Three seconds before pg-boss takes them for dead, though both are heard of.
    server.sql(
      "UPDATE vcb_queue.job SET started_on = started_on - interval '23 hours 59 minutes 57 seconds', heartbeat_on = now()",
      database,
    )
    await one.keep([taken])
    await expect.poll(() => one.take(work('other')), { timeout: 20_000, interval: 200 }).toMatchObject({ before: 1 })
    expect(forgotten.before).toBe(0)
    expect(await two.take(work('large'))).toBeUndefined()
    await one.done(taken)
    expect(await two.take(work('large'))).toBeUndefined()
  })

  it('waits for a server that restarts', async () => {
    const database = await server.database()
    await using queue = await open(database)
    await using hasty = await open(database, { patienceMs: 100 })
    await queue.take(work('web'))
    await server.stop('immediate')
    await expect(hasty.take(work('db'))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const taking = queue.take(work('db'))
    await systemClock.sleep(500)
    await server.start()
    expect(await taking).toBeDefined()
  })
})
