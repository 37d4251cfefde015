import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createIds, silentLog } from '../../src/core/index.ts'
import {
  type Claims,
  createClaims,
  openSqliteJournal,
  type ProcessIdentity,
  recoverJobs,
  type Releasers,
  SqliteVmLocks,
  vmLockReleaser,
} from '../../src/journal/index.ts'
import { openState, type State } from '../../src/state/index.ts'
import { ALICE, BOB, HandClock, vm } from './journal-contract.ts'

let directory: string
let state: State
const clock = new HandClock()
let alive: ProcessIdentity[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-locks-'))
  state = await openState(join(directory, 'state.db'))
  alive = [ALICE, BOB]
})
afterEach(async () => {
  await state[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

const isAlive = async (owner: ProcessIdentity): Promise<boolean> => alive.some((process) => process.pid === owner.pid)
async function jobOf(self: ProcessIdentity) {
  const journal = await openSqliteJournal({ state, clock, ids: createIds(), processes: { self: async () => self, isAlive } })
  const locks = new SqliteVmLocks({ state, clock, processes: { self: async () => self, isAlive } })
  const releasers: Releasers = {
    vmLock: vmLockReleaser(locks),
    partialFile: { find: async () => undefined, release: async () => undefined },
  }
  const job = await journal.begin('backup', {})
  const claims = createClaims(journal, releasers, job)
  const lock = async (held: Claims = claims) => held.take('vmLock', { vm: vm('web01') }, [], (claim) => locks.acquire(vm('web01'), claim))
  return { journal, releasers, job, claims, lock }
}

describe('SqliteVmLocks', () => {
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
    const locks = new SqliteVmLocks({ state, clock, processes: { self: async () => BOB, isAlive } })
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
    const locks = new SqliteVmLocks({ state, clock, processes: { self: async () => ALICE, isAlive } })
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
})
