import { afterAll, beforeAll, expect, it } from 'vitest'
import { type ClaimId, createIds, silentLog, systemClock } from '../../src/core/index.ts'
import { createProxyProcesses, PgJournal, PgVmLocks, type ProcessIdentity, recoverJobs } from '../../src/journal/index.ts'
import { createProxyRegistry } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, proxyOf, startPostgres } from '../postgres.ts'
import { ALICE, BOB, vm, World } from './journal-contract.ts'

/** What a process that was declared dead, and does not know it, can still do to the rows of its jobs. */
describePeer('postgres', 'a journal and who was declared dead', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  async function open(stack: AsyncDisposableStack, database: string, self: ProcessIdentity) {
    const state = stack.use(await server.state({ database }))
    const registry = createProxyRegistry({ state, clock: systemClock, log: silentLog })
    const { epoch } = stack.use(await registry.register(proxyOf(self)))
    const journal = new PgJournal({ state, clock: systemClock, ids: createIds(), self, epoch })
    const processes = { ...createProxyProcesses(registry, systemClock), self: async () => self }
    const locks = new PgVmLocks({ state, clock: systemClock, processes })
    return {
      journal,
      processes,
      locks,
      kill: () => server.sql(`UPDATE vcb.proxy_process SET state = 'dead' WHERE epoch = ${epoch}`, database),
    }
  }

  it('records how to reach what came too late, for the next recovery, and lets it do nothing else', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const alice = await open(stack, database, ALICE)
    const bob = await open(stack, database, BOB)
    const world = new World()
    const recover = async () => {
      const { journal, processes } = bob
      return recoverJobs({
        journal,
        releasers: world.releasers,
        isAlive: (owner) => processes.isAlive(owner),
        clock: systemClock,
        log: silentLog,
      })
    }
    const job = await alice.journal.begin('backup', {})
    const slow = await alice.journal.intend(job, 'partialFile', { path: 'slow' }, [])
    const lock = await alice.journal.intend(job, 'vmLock', { vm: vm('web01') }, [])
    const wait = await alice.journal.intend(job, 'partialFile', { path: 'unseen' }, [])
    expect((await recover()).untouched).toMatchObject([{ job }])

    alice.kill()
    const dead = { code: 'CANCELED', message: expect.stringContaining('declared dead') }
    await expect(alice.journal.begin('backup', {})).rejects.toMatchObject(dead)
    await expect(alice.journal.intend(job, 'partialFile', {}, [])).rejects.toMatchObject(dead)
    await expect(alice.journal.assertOwned(job)).rejects.toMatchObject(dead)
    await expect(alice.journal.finish(job, { result: 'succeeded' })).rejects.toMatchObject(dead)

    // Adopted, and one effect comes while recovery is at work.
    expect(await bob.journal.adopt(job, ALICE)).toBe(true)
    await expect(alice.locks.acquire(vm('web01'), lock)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await bob.locks.find(lock)).toBeUndefined()
    await expect(alice.journal.confirm(slow, { path: 'slow' })).rejects.toMatchObject({ code: 'CONFLICT' })
    const [open1] = await bob.journal.unfinished()
    expect(open1).toMatchObject({
      owner: BOB,
      claims: [{ id: slow, state: 'confirmed', ref: { path: 'slow' } }, {}, { state: 'intended' }],
    })
    for (const claim of [wait, lock, slow]) await bob.journal.released(claim)
    await bob.journal.finish(job, { result: 'recovered' })

    // One that was confirmed is over; one that was given up as absent is open again, with its job.
    await expect(alice.journal.confirm(slow, { path: 'again' })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await bob.journal.unfinished()).toEqual([])
    world.there.set(wait, 'unseen')
    await expect(alice.journal.confirm(wait, { path: 'unseen' })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await bob.journal.unfinished()).toMatchObject([{ id: job, owner: undefined, claims: [{ id: wait, state: 'confirmed' }] }])
    expect((await recover()).recovered).toMatchObject([{ job, closed: true, claims: [{ claim: wait, result: 'released' }] }])
    expect(world.there.size).toBe(0)
    expect(await bob.journal.releasedAt(wait satisfies ClaimId)).toBeInstanceOf(Date)
  })
})
