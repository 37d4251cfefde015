import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createIds, silentLog, systemClock } from '../../src/core/index.ts'
import {
  type Claims,
  createClaims,
  type Journal,
  openSqliteJournal,
  PgJournal,
  PgVmLocks,
  type ProcessIdentity,
  recoverJobs,
  type Releasers,
  SqliteVmLocks,
  type VmLocks,
  vmLockReleaser,
} from '../../src/journal/index.ts'
import { createProxyRegistry, openState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, proxyOf, startPostgres } from '../postgres.ts'
import { ALICE, BOB, HandClock, vm } from './journal-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

type LocksWorld = AsyncDisposable & { as(self: ProcessIdentity): Promise<{ readonly journal: Journal; readonly locks: VmLocks }> }

let world: LocksWorld
const clock = new HandClock()
let alive: ProcessIdentity[]

const isAlive = async (owner: ProcessIdentity): Promise<boolean> => alive.some((process) => process.pid === owner.pid)
async function jobOf(self: ProcessIdentity) {
  const { journal, locks } = await world.as(self)
  const releasers: Releasers = {
    vmLock: vmLockReleaser(locks),
    partialFile: { find: async () => undefined, release: async () => undefined },
  }
  const job = await journal.begin('backup', {})
  const claims = createClaims(journal, releasers, job)
  const lock = async (held: Claims = claims) => held.take('vmLock', { vm: vm('web01') }, [], (claim) => locks.acquire(vm('web01'), claim))
  return { journal, releasers, job, claims, lock }
}

/** What locks promise wherever they are; `open`: none taken. */
function vmLocksContract(open: () => Promise<LocksWorld>): void {
  beforeEach(async () => {
    world = await open()
    alive = [ALICE, BOB]
  })
  afterEach(() => world[Symbol.asyncDispose]())

  it('lets one job have a VM, names it to the next, and lets that one have it afterwards', async () => {
    const first = await jobOf(ALICE)
    const second = await jobOf(BOB)
    await first.lock()
    const error: unknown = await second.lock().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'CONFLICT', retry: 'later', subject: 'web01' })
    expect(String(error)).toContain(first.job)
    expect(String(error)).toContain('process 101')
    expect(second.claims.held).toEqual([])
    await first.claims[Symbol.asyncDispose]()
    await expect(second.lock()).resolves.toMatchObject({ ref: { vmKey: 'vc/i-web01' } })
  })

  it('says what it would refuse, and takes nothing', async () => {
    const { locks } = await world.as(BOB)
    expect(await locks.refusal(vm('web01'))).toBeUndefined()
    const first = await jobOf(ALICE)
    await first.lock()
    expect(await locks.refusal(vm('web01'))).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('process 101') })
    expect(await locks.refusal(vm('db01'))).toBeUndefined()
    // What a dead one left is recovered first.
    alive = [BOB]
    expect(await locks.refusal(vm('web01'))).toBeUndefined()
    expect((await first.journal.unfinished()).flatMap(({ claims }) => claims)).toHaveLength(1)
  })

  it('does not mind another VM', async () => {
    const first = await jobOf(ALICE)
    await first.lock()
    const { locks } = await world.as(ALICE)
    await first.claims.take('vmLock', { vm: vm('db01') }, [], (claim) => locks.acquire(vm('db01'), claim))
    expect(first.claims.held).toHaveLength(2)
  })

  it('takes over the lock of a dead process that held nothing else', async () => {
    const first = await jobOf(ALICE)
    await first.lock()
    alive = [BOB]
    const second = await jobOf(BOB)
    await second.lock()
    const open = await second.journal.unfinished()
    expect(open.map(({ claims }) => claims.length)).toEqual([0, 1])
  })

  it('wants recovery first when the dead process held more', async () => {
    const first = await jobOf(ALICE)
    const held = await first.lock()
    await first.claims.take('partialFile', { path: 'x' }, [held.id], async () => ({ path: 'x' }))
    alive = [BOB]
    const second = await jobOf(BOB)
    await expect(second.lock()).rejects.toMatchObject({ code: 'CONFLICT', next: expect.stringContaining('vcb recover') })
    await recoverJobs({ journal: second.journal, releasers: second.releasers, isAlive, clock, log: silentLog })
    await second.lock()
  })

  it('respects a lease although its process is gone', async () => {
    const first = await jobOf(ALICE)
    await first.lock()
    await first.claims.detach(new Date(clock.time + 100_000))
    alive = [BOB]
    const second = await jobOf(BOB)
    await expect(second.lock()).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('lease until') })
    clock.time += 200_000
    await second.lock()
  })

  it('of many that try at once, one gets it', async () => {
    const jobs = await Promise.all(Array.from({ length: 8 }, () => jobOf(ALICE)))
    const results = await Promise.allSettled(jobs.map((job) => job.lock()))
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })
}

describe('VM locks in a state file', () => {
  vmLocksContract(async () => {
    await using stack = new AsyncDisposableStack()
    const directory = await fastDirectory('vcb-locks-')
    stack.defer(() => rm(directory, { recursive: true, force: true }))
    const state = stack.use(await openState(join(directory, 'state.db')))
    const kept = stack.move()
    return {
      as: async (self) => {
        const processes = { self: async () => self, isAlive }
        return {
          journal: await openSqliteJournal({ state, clock, ids: createIds(), processes }),
          locks: new SqliteVmLocks({ state, clock, processes }),
        }
      },
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    }
  })
})

describePeer('postgres', 'VM locks in PostgreSQL', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())
  vmLocksContract(async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const kept = stack.move()
    return {
      as: async (self) => {
        const state = kept.use(await server.state({ database }))
        const { epoch } = kept.use(await createProxyRegistry({ state, clock: systemClock, log: silentLog }).register(proxyOf(self)))
        const locks = new PgVmLocks({ state, clock, processes: { self: async () => self, isAlive } })
        return { journal: new PgJournal({ state, clock, ids: createIds(), self, epoch, host: self.bootId }), locks }
      },
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    }
  })
})
