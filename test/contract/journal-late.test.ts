import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type ClaimId, createIds, silentLog, systemClock } from '../../src/core/index.ts'
import { recover as recoverAll } from '../../src/flow/index.ts'
import { createProxyProcesses, PgJournal, PgVmLocks, type ProcessIdentity, recoverJobs } from '../../src/journal/index.ts'
import { removeLocks } from '../../src/provider/index.ts'
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
    const journal = new PgJournal({ state, clock: systemClock, ids: createIds(), self, epoch, host: self.bootId })
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

  it('leaves what is on the machine of the dead one to that machine, and releases all else', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const alice = await open(stack, database, ALICE)
    const carol = await open(stack, database, { pid: 103, bootId: 'boot-2', startTime: 3 })
    const released: string[] = []
    const noted = (kind: string) => ({ find: async () => undefined, release: async () => void released.push(kind) })
    const releasers = { snapshot: noted('snapshot'), repositoryLock: noted('lock'), vmLock: noted('vm'), partialFile: noted('file') }
    const recover = async (who: typeof alice, host: string) => {
      const { journal, processes } = who
      return recoverJobs({ journal, releasers, isAlive: (owner) => processes.isAlive(owner), clock: systemClock, log: silentLog, host })
    }
    const job = await alice.journal.begin('mount', {})
    const take = async (kind: string, args: unknown, below: readonly ClaimId[]) => {
      const id = await alice.journal.intend(job, kind, args, below)
      await alice.journal.confirm(id, args)
      return id
    }
    const lock = await take('vmLock', { vm: vm('web01') }, [])
    await take('snapshot', {}, [lock])
    const used = await take('repositoryLock', { url: 's3:https://s3.example.com/backup', names: [] }, [])
    await take('repositoryLock', { url: '/srv/backup', names: [] }, [])
    await take('repositoryLock', { url: 'restic:sftp:vcb@nas:/srv/backup', names: [] }, [])
    await take('partialFile', { path: '/tmp/x' }, [used])
    alice.kill()
    const { recovered } = await recover(carol, 'boot-2')
    expect(recovered).toMatchObject([{ closed: false }])
    expect(released).toEqual(['lock', 'snapshot', 'vm'])
    const [left] = await carol.journal.unfinished()
    expect(left).toMatchObject({ owner: undefined, host: 'boot-1' })
    expect(left?.claims.map(({ kind, keptReason }) => [kind, keptReason])).toEqual([
      ['repositoryLock', expect.stringContaining('which depends on it')],
      ['repositoryLock', 'It is on boot-1, where vcb releases it.'],
      ['partialFile', 'It is on boot-1, where vcb releases it.'],
    ])
    // Looked at again, nothing is adopted and counted.
    expect(await recover(carol, 'boot-2')).toMatchObject({ recovered: [], untouched: [{ reason: 'what it holds is on boot-1' }] })
    const bob = await open(stack, database, BOB)
    expect((await recover(bob, 'boot-1')).recovered).toMatchObject([{ closed: true }])
    expect(released.slice(3)).toEqual(['file', 'lock', 'lock'])
  })

  it('releases a lock file of a dead one of another machine that is at the same path here, and leaves one that is not', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const alice = await open(stack, database, ALICE)
    const carol = await open(stack, database, { pid: 103, bootId: 'boot-2', startTime: 3 })
    const shared = stack.adopt(await mkdtemp(join(tmpdir(), 'vcb-shared-')), (path) => rm(path, { recursive: true }))
    const name = 'ab'.repeat(32)
    await mkdir(join(shared, 'locks'))
    await writeFile(join(shared, 'locks', name), 'x')
    const job = await alice.journal.begin('backup', {})
    for (const url of [`restic:${shared}`, 'restic:/of/that/machine/alone']) {
      const id = await alice.journal.intend(job, 'repositoryLock', { url, names: [name] }, [])
      await alice.journal.confirm(id, { url, names: [name] })
    }
    alice.kill()
    const { journal, processes } = carol
    const of = { names: [name], url: `restic:${shared}` }
    const releasers = { repositoryLock: { find: async () => of, release: async () => removeLocks(of) } }
    const report = await recoverAll({ journal, releasers, processes, clock: systemClock, log: silentLog, host: 'boot-2' })
    expect(await readdir(join(shared, 'locks'))).toEqual([])
    expect(report.recovered).toMatchObject([{ closed: false }])
    const [left] = await carol.journal.unfinished()
    expect(left?.claims.map(({ args, keptReason }) => [args, keptReason])).toEqual([
      [{ url: 'restic:/of/that/machine/alone', names: [name] }, 'It is on boot-1, where vcb releases it.'],
    ])
  })

  it('looks once more for what a dead process had just tried', async () => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const alice = await open(stack, database, ALICE)
    const bob = await open(stack, database, BOB)
    const world = new World()
    let later = 0
    const clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + later) }
    const recover = async () => {
      const { journal, processes } = bob
      const isAlive = (owner: ProcessIdentity): Promise<boolean> => processes.isAlive(owner)
      return recoverJobs({ journal, releasers: world.releasers, isAlive, clock, log: silentLog, host: 'boot-1' })
    }
    const job = await alice.journal.begin('backup', {})
    const came = await alice.journal.intend(job, 'partialFile', { path: 'came' }, [])
    await alice.journal.intend(job, 'partialFile', { path: 'never' }, [came])
    alice.kill()
    expect((await recover()).recovered).toMatchObject([{ closed: false, claims: [{ result: 'kept' }, { result: 'kept' }] }])
    world.there.set(came, 'came')
    later = 60_000
    expect((await recover()).recovered).toMatchObject([{ closed: true, claims: [{ result: 'absent' }, { result: 'released' }] }])
    expect(world.there.size).toBe(0)
  })
})
