import { afterAll, beforeAll, expect, it } from 'vitest'
import { SharedDueClaims } from '../../src/agent/shared-due-claims.ts'
import { silentLog, systemClock } from '../../src/core/index.ts'
import type { Due } from '../../src/schedule/index.ts'
import { createProxyDrains, openPgQueue, type PgState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'

const dueOf = (index: number, change: Partial<Due> = {}): Due => ({
  job: 'nightly',
  vm: { moref: `vm-${index}`, name: `vm${index}`, instanceUuid: `i${index}`, biosUuid: 'b', vcenterUuid: 'vc', path: `/DC/vm/vm${index}` },
  mode: 'incremental',
  priority: 0,
  dueAt: Date.UTC(2026, 0, 1, 22),
  since: Date.UTC(2026, 0, 1, 22),
  attempt: 1,
  reason: 'its moment has come',
  deadline: undefined,
  beginBy: undefined,
  openUntil: undefined,
  ...change,
})

describePeer('postgres', 'what is due, over several proxies', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const open = async (stack: AsyncDisposableStack, database: string, name: string, serves: (due: Due) => boolean = () => true) => {
    const state: PgState = stack.use(await server.state({ database }))
    // pg-boss takes no less than ten seconds.
    const times = { supervise: true, heartbeatS: 10, monitorS: 1 }
    const queue = stack.use(await openPgQueue({ address: server.address(database), clock: systemClock, log: silentLog, name, ...times }))
    const fence = new AbortController()
    const drains = createProxyDrains(state)
    const parts = { queue, drains, clock: systemClock, log: silentLog, name, serves: async (due: Due) => serves(due), fenced: fence.signal }
    return { claims: stack.use(new SharedDueClaims(parts)), drains, fence }
  }

  it('each of 60 VMs runs once on one of three, and that of a dead one elsewhere', { timeout: 120_000 }, async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const proxies = [await open(stack, database, 'one'), await open(stack, database, 'two'), await open(stack, database, 'three')]
    const dues = Array.from({ length: 60 }, (_, index) => dueOf(index))
    const ran: string[] = []
    let lost: readonly Due[] = []
    const work = async ({ claims }: (typeof proxies)[number], index: number): Promise<void> => {
      const mine: Due[] = []
      for (const due of dues.slice(index * 7).concat(dues.slice(0, index * 7))) {
        if (!(await claims.take(due))) continue
        expect(await claims.take(due)).toBe(true)
        if (index === 0) mine.push(due)
        else {
          ran.push(due.vm.name)
          await claims.settle(due, true)
          await claims.settle(due, true)
        }
      }
      if (index === 0) lost = mine
    }
    await Promise.all(proxies.map(work))
    expect(lost.length).toBeGreaterThan(0)
    expect(ran.length + lost.length).toBe(60)
    // The first one dies: it is fenced, keeps nothing, and settles nothing any more.
    const [dead, living] = proxies
    if (dead === undefined || living === undefined) throw new Error('no proxy')
    dead.fence.abort()
    for (const due of lost.slice(0, 2)) await dead.claims.settle(due, true)
    expect(await dead.claims.take(dueOf(99))).toBe(false)
    const began = systemClock.monotonicMs()
    for (const due of lost) {
      await expect.poll(() => living.claims.take(due), { timeout: 30_000, interval: 200 }).toBe(true)
      ran.push(due.vm.name)
      await living.claims.settle(due, true)
    }
    expect(systemClock.monotonicMs() - began).toBeLessThan(25_000)
    expect(new Set(ran).size).toBe(60)
    expect(ran).toHaveLength(60)
    for (const { claims } of proxies) expect(await claims.take(dueOf(3))).toBe(false)
  })

  it('the try after a failed one is another work, and what was not begun is anybody’s', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const [one, two] = [await open(stack, database, 'one'), await open(stack, database, 'two')]
    expect(await one.claims.take(dueOf(1))).toBe(true)
    expect(await two.claims.take(dueOf(1, { attempt: 2 }))).toBe(false)
    await one.claims.settle(dueOf(1), true)
    expect(await two.claims.take(dueOf(1, { attempt: 2 }))).toBe(true)
    await two.claims.settle(dueOf(1, { attempt: 2 }), false)
    expect(await one.claims.take(dueOf(1, { attempt: 2 }))).toBe(true)
  })

  it('a proxy takes what it serves, and nothing while it is drained', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const one = await open(stack, database, 'one', ({ vm }) => vm.name === 'vm1')
    expect([await one.claims.take(dueOf(1)), await one.claims.take(dueOf(2))]).toEqual([true, false])
    const two = await open(stack, database, 'two')
    await two.drains.drain('two', 'root')
    expect(await two.claims.take(dueOf(2))).toBe(false)
    await two.drains.resume('two')
    await expect.poll(() => two.claims.take(dueOf(2)), { timeout: 10_000, interval: 300 }).toBe(true)
  })
})
