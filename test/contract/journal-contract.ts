import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentError, type ClaimId, type Clock, type JobId, silentLog, type VmRef } from '../../src/core/index.ts'
import {
  CancelWatch,
  createClaims,
  type Journal,
  LeftError,
  type ProcessIdentity,
  recoverJobs,
  type RecoveryReport,
  type Releasers,
  resumeClaims,
  runJob,
} from '../../src/journal/index.ts'
import { cutting, dying } from './cut-journal.ts'

/** One journal, seen by several processes. */
export type JournalSubject = AsyncDisposable & {
  /** The journal as the process `self` opens it. */
  as(self: ProcessIdentity): Promise<Journal>
}

export const ALICE: ProcessIdentity = { pid: 101, bootId: 'boot-1', startTime: 1000 }
export const BOB: ProcessIdentity = { pid: 102, bootId: 'boot-1', startTime: 2000 }

export class HandClock implements Clock {
  time = Date.UTC(2026, 10, 22, 18, 0, 0)
  now(): Date {
    return new Date(this.time++)
  }
  monotonicMs(): number {
    return this.time
  }
  async sleep(): Promise<void> {
    await Promise.resolve()
  }
  every(): Disposable {
    return { [Symbol.dispose]: () => undefined }
  }
}

export const vm = (name: string): VmRef => ({
  moref: name,
  name,
  instanceUuid: `i-${name}`,
  biosUuid: 'b',
  vcenterUuid: 'vc',
  path: `/DC/vm/${name}`,
})

/** The world outside: files that exist or not, by claim id, with faults. */
export class World {
  readonly there = new Map<ClaimId, string>()
  readonly log: string[] = []
  readonly failRelease = new Map<string, AgentError>()
  /** Claims whose effect happens although the call fails. */
  failAfterEffect: AgentError | undefined

  readonly releasers: Releasers = {
    partialFile: {
      find: async (claim) => (this.there.has(claim.id) ? { path: claim.args.path } : undefined),
      release: async (ref, claim) => {
        this.log.push(`release ${ref.path}`)
        const failure = this.failRelease.get(ref.path)
        if (failure !== undefined) throw failure
        if (!this.there.delete(claim.id)) throw new AgentError('NOT_FOUND', 'gone')
      },
    },
  }

  make(path: string): (claim: ClaimId) => Promise<{ path: string }> {
    return async (claim) => {
      this.there.set(claim, path)
      if (this.failAfterEffect !== undefined) throw this.failAfterEffect
      return { path }
    }
  }
}

/** What every journal promises, and what `Claims` and recovery make of it. */
export function journalContract(name: string, make: (clock: Clock) => Promise<JournalSubject>): void {
  describe(`journal contract: ${name}`, () => {
    let subject: JournalSubject
    let clock: HandClock
    let journal: Journal
    let world: World
    beforeEach(async () => {
      clock = new HandClock()
      subject = await make(clock)
      journal = await subject.as(ALICE)
      world = new World()
    })
    afterEach(async () => {
      await subject[Symbol.asyncDispose]()
    })
    const recover = async (
      options: { alive?: readonly ProcessIdentity[]; job?: JobId; as?: ProcessIdentity } = {},
    ): Promise<RecoveryReport> =>
      recoverJobs({
        journal: await subject.as(options.as ?? BOB),
        releasers: world.releasers,
        isAlive: async (owner) => (options.alive ?? []).some((process) => process.pid === owner.pid),
        clock,
        log: silentLog,
        job: options.job,
      })
    const take = async (held: readonly string[]): Promise<JobId> => {
      const job = await journal.begin('backup', { vm: 'web01' })
      const claims = createClaims(journal, world.releasers, job)
      let below: ClaimId[] = []
      for (const path of held) below = [(await claims.take('partialFile', { path }, below, world.make(path))).id]
      return job
    }

    it('shows another process what is held, in the order it was taken', async () => {
      const job = await take(['a', 'b'])
      const [open, ...others] = await (await subject.as(BOB)).unfinished()
      expect(others).toEqual([])
      expect(open).toMatchObject({
        id: job,
        kind: 'backup',
        args: { vm: 'web01' },
        owner: ALICE,
        leaseUntil: undefined,
        outcome: undefined,
      })
      expect(open?.claims.map((claim) => [claim.kind, claim.state, claim.ref])).toEqual([
        ['partialFile', 'confirmed', { path: 'a' }],
        ['partialFile', 'confirmed', { path: 'b' }],
      ])
      expect(open?.claims[1]?.dependsOn).toEqual([open?.claims[0]?.id])
      expect(open?.begunAt.getTime()).toBeLessThan(open?.claims[0]?.intendedAt?.getTime() ?? 0)
    })

    it('has the intent on record before the effect starts', async () => {
      const job = await journal.begin('backup', {})
      const claims = createClaims(journal, world.releasers, job)
      await claims.take('partialFile', { path: 'a' }, [], async (id) => {
        const [seen] = (await (await subject.as(BOB)).unfinished())[0]?.claims ?? []
        expect(seen).toMatchObject({ id, state: 'intended', args: { path: 'a' }, ref: undefined })
        return { path: 'a' }
      })
    })

    it('tells when a claim was released, and how far back it reaches', async () => {
      expect(await journal.reachesBackTo()).toBeUndefined()
      const before = clock.now()
      const job = await take(['a'])
      const [claim] = (await journal.unfinished())[0]?.claims ?? []
      expect(await journal.releasedAt(claim?.id ?? ('' as ClaimId))).toBeUndefined()
      await recover()
      const released = await (await subject.as(BOB)).releasedAt(claim?.id ?? ('' as ClaimId))
      const begun = await journal.reachesBackTo()
      expect(released?.getTime()).toBeGreaterThan(begun?.getTime() ?? Number.NaN)
      expect(begun?.getTime()).toBeGreaterThan(before.getTime())
      expect(await journal.releasedAt('ffffffffffffffffffffffff' as ClaimId)).toBeUndefined()
      expect(job).not.toBe('')
    })

    it('never finishes a job that holds something', async () => {
      const job = await take(['a'])
      await expect(journal.finish(job, { result: 'succeeded' })).rejects.toMatchObject({ code: 'INTERNAL' })
      const [claim] = (await journal.unfinished())[0]?.claims ?? []
      await journal.released(claim?.id as ClaimId)
      await journal.released(claim?.id as ClaimId)
      await journal.finish(job, { result: 'succeeded' })
      expect(await journal.unfinished()).toEqual([])
      await expect(journal.intend(job, 'partialFile', {}, [])).rejects.toMatchObject({ code: 'INTERNAL' })
      await expect(journal.confirm(claim?.id as ClaimId, {})).rejects.toMatchObject({ code: 'INTERNAL' })
    })

    it('refuses a claim that depends on what the job does not hold', async () => {
      const first = await take(['a'])
      const [claim] = (await journal.unfinished()).find(({ id }) => id === first)?.claims ?? []
      const second = await journal.begin('backup', {})
      await expect(journal.intend(second, 'partialFile', {}, [claim?.id as ClaimId])).rejects.toMatchObject({ code: 'INTERNAL' })
      await expect(journal.intend(second, 'partialFile', {}, ['none' as ClaimId])).rejects.toMatchObject({ code: 'INTERNAL' })
    })

    it('lets one process adopt a job, once', async () => {
      const job = await take(['a'])
      const bob = await subject.as(BOB)
      expect(await bob.adopt(job, undefined)).toBe(false)
      expect(await bob.adopt(job, { ...ALICE, startTime: 7 })).toBe(false)
      expect(await bob.adopt(job, ALICE)).toBe(true)
      expect(await journal.adopt(job, ALICE)).toBe(false)
      expect((await journal.unfinished())[0]?.owner).toEqual(BOB)
    })

    it('a process that is fenced releases nothing, notes nothing, and ends with the one reason', async () => {
      const fence = new AbortController()
      const reason = new AgentError('CANCELED', 'others may take over')
      const options = { requests: journal, clock, log: silentLog, all: new AbortController().signal, deadlineMs: 1000 }
      using cancels = new CancelWatch({ ...options, fenced: fence.signal })
      const run = (work: () => Promise<unknown>): Promise<unknown> =>
        runJob({ journal, releasers: world.releasers, kind: 'backup', args: {}, cancels }, async (claims, signal) => {
          await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
          fence.abort(reason)
          expect(signal?.aborted).toBe(true)
          return work()
        })
      await expect(run(async () => Promise.reject(new AgentError('UNAVAILABLE', 'the call was refused')))).rejects.toBe(reason)
      expect(world.log).toEqual([])
      const [open] = await journal.unfinished()
      expect(open).toMatchObject({ owner: ALICE, outcome: undefined, claims: [{ state: 'confirmed', attempts: 0 }] })
      // Another one releases it.
      await recover()
      expect(world.there.size).toBe(0)
      expect(await journal.unfinished()).toEqual([])
    })

    it('what a fenced process was about to take or release stays as it is', async () => {
      const fence = new AbortController()
      const reason = new AgentError('CANCELED', 'others may take over')
      const job = await journal.begin('backup', {})
      const claims = createClaims(journal, world.releasers, job, { fenced: fence.signal })
      const held = await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
      const taking = claims.take('partialFile', { path: 'b' }, [], async () => {
        fence.abort(reason)
        throw new AgentError('UNAVAILABLE', 'the call was refused')
      })
      await expect(taking).rejects.toBe(reason)
      await expect(claims.release(held.id)).rejects.toBe(reason)
      await claims[Symbol.asyncDispose]()
      expect(world.log).toEqual([])
      const [open] = await journal.unfinished()
      expect(open).toMatchObject({ owner: ALICE, claims: [{ state: 'confirmed' }, { state: 'intended', attempts: 0 }] })
    })

    it('lets nobody act on a job that another process has taken over', async () => {
      const job = await take(['a', 'b'])
      const intended = await journal.intend(job, 'partialFile', { path: 'c' }, [])
      await journal.assertOwned(job)
      const bob = await subject.as(BOB)
      await expect(bob.assertOwned(job)).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(await bob.adopt(job, ALICE)).toBe(true)
      const before = await bob.unfinished()
      const [a, b] = before[0]?.claims ?? []
      const calls: readonly (() => Promise<unknown>)[] = [
        () => journal.assertOwned(job),
        () => journal.intend(job, 'partialFile', { path: 'd' }, []),
        () => journal.confirm(a?.id as ClaimId, { path: 'elsewhere' }),
        () => journal.released(b?.id as ClaimId),
        () => journal.kept(a?.id as ClaimId, 'no'),
        () => journal.finish(job, { result: 'succeeded' }),
        () => journal.disown(job, undefined, { result: 'failed' }),
        () => journal.disown(job, new Date(clock.time + 1e6)),
        () => journal.waits(job, 'for ever'),
      ]
      for (const call of calls) {
        await expect(call()).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('process 102 has taken it over') })
      }
      expect(await bob.unfinished()).toEqual(before)
      // The new one can do all of it.
      for (const claim of [intended, b?.id, a?.id]) await bob.released(claim as ClaimId)
      await bob.finish(job, { result: 'recovered' })
      await journal.released(a?.id as ClaimId)
    })

    it('releases nothing of a job that another process has taken over', async () => {
      const job = await journal.begin('backup', {})
      const claims = createClaims(journal, world.releasers, job)
      await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
      expect(await (await subject.as(BOB)).adopt(job, ALICE)).toBe(true)
      await expect(claims[Symbol.asyncDispose]()).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(world.log).toEqual([])
      expect(world.there.size).toBe(1)
      expect((await journal.unfinished())[0]).toMatchObject({ owner: BOB, claims: [{ state: 'confirmed', keptReason: undefined }] })
    })

    it('of a job that nobody answers for, who had it still notes what became of its claims', async () => {
      const job = await take(['a', 'b'])
      const [a, b] = (await journal.unfinished())[0]?.claims ?? []
      await journal.disown(job)
      await journal.released(b?.id as ClaimId)
      await journal.kept(a?.id as ClaimId, 'busy')
      await journal.disown(job, undefined, { result: 'failed', reason: 'no' })
      expect((await journal.unfinished())[0]).toMatchObject({ outcome: { reason: 'no' }, claims: [{ id: a?.id, keptReason: 'busy' }] })
      await expect(journal.intend(job, 'partialFile', {}, [])).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(journal.finish(job, { result: 'failed' })).rejects.toMatchObject({ code: 'CONFLICT' })
    })

    it('a held claim can come to be reached by another name, durably', async () => {
      const job = await journal.begin('backup', {})
      await using claims = createClaims(journal, world.releasers, job)
      const held = await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
      await claims.update<'partialFile'>(held.id, { path: 'a-2' })
      const [open] = await (await subject.as(BOB)).unfinished()
      expect(open?.claims).toMatchObject([{ state: 'confirmed', args: { path: 'a' }, ref: { path: 'a-2' } }])
      await claims.release(held.id)
      expect(world.log).toEqual(['release a-2'])
      await expect(claims.update<'partialFile'>(held.id, { path: 'a-3' })).rejects.toMatchObject({ code: 'INTERNAL' })
    })

    it('counts the attempts that failed to release a claim, with when and why', async () => {
      await take(['a'])
      world.failRelease.set('a', new AgentError('CONFLICT', 'file is locked'))
      await recover()
      const before = clock.now()
      await recover()
      const [claim] = (await journal.unfinished())[0]?.claims ?? []
      expect(claim).toMatchObject({ attempts: 2, keptReason: 'file is locked' })
      expect(claim?.keptAt?.getTime()).toBeGreaterThan(before.getTime())
    })

    it('hands a request to cancel to the process that runs the job, and to no other', async () => {
      const job = await journal.begin('backup', {})
      const bob = await subject.as(BOB)
      const other = await bob.begin('backup', {})
      expect(await journal.toCancel()).toEqual([])
      expect(await bob.requestCancel(job, 'vcb cancel by root')).toBe(true)
      expect(await bob.requestCancel(job, 'somebody later')).toBe(true)
      expect(await bob.requestCancel('none' as JobId, 'root')).toBe(false)
      expect(await journal.toCancel()).toMatchObject([{ job, by: 'vcb cancel by root' }])
      expect(await bob.toCancel()).toEqual([])
      const [asked, not] = await bob.unfinished()
      expect(asked?.cancel).toMatchObject({ by: 'vcb cancel by root', at: expect.any(Date) })
      expect(not).toMatchObject({ id: other, cancel: undefined })
      await journal.finish(job, { result: 'canceled' })
      expect(await journal.toCancel()).toEqual([])
      expect(await bob.requestCancel(job, 'root')).toBe(false)
    })

    it('shows what a job waits for, and forgets it with who waited', async () => {
      const alice = journal
      const bob = await subject.as(BOB)
      const job = await alice.begin('backup', {})
      const waits = async (): Promise<string | undefined> => (await bob.unfinished()).find(({ id }) => id === job)?.waitsFor
      expect(await waits()).toBeUndefined()
      await alice.waits(job, 'waits for a stream')
      expect(await waits()).toBe('waits for a stream')
      await alice.waits(job, undefined)
      expect(await waits()).toBeUndefined()
      await alice.waits(job, 'waits again')
      expect(await bob.adopt(job, ALICE)).toBe(true)
      expect(await waits()).toBeUndefined()
      await bob.finish(job, { result: 'recovered' })
      await bob.waits(job, 'after the end')
      expect(await bob.unfinished()).toEqual([])
    })

    it('lists finished jobs, the last first, and forgets the old ones', async () => {
      const done: JobId[] = []
      for (const name of ['a', 'b', 'c', 'd']) {
        done.push(
          await runJob({ journal, releasers: world.releasers, kind: 'backup', args: { name } }, async (claims) => {
            await claims.take('partialFile', { path: name }, [], world.make(name))
            return claims.job
          }),
        )
      }
      const open = await take(['held'])
      const listed = await journal.finished(3)
      expect(listed.map((job) => job.args)).toEqual([{ name: 'd' }, { name: 'c' }, { name: 'b' }])
      expect(listed[0]).toMatchObject({ id: done[3], kind: 'backup', outcome: { result: 'succeeded' } })
      expect(listed[0]?.finishedAt.getTime()).toBeGreaterThan(listed[0]?.begunAt.getTime() ?? Number.POSITIVE_INFINITY)
      expect(await journal.prune({ jobs: 3, before: new Date(0) })).toBe(1)
      expect((await journal.finished(9)).map((job) => job.id)).toEqual([done[3], done[2], done[1]])
      expect(await journal.prune({ jobs: 3, before: new Date(0) })).toBe(0)
      expect(await journal.prune({ jobs: 9, before: new Date(clock.time + 1e9), atLeast: 3 })).toBe(0)
      expect(await journal.prune({ jobs: 9, before: listed[0]?.finishedAt ?? new Date(0) })).toBe(2)
      expect((await journal.finished(9)).map((job) => job.id)).toEqual([done[3]])
      clock.time += 1000
      await journal.prune({ jobs: 0, before: clock.now() })
      expect(await journal.finished(9)).toEqual([])
      // What is not finished is never forgotten.
      expect((await journal.unfinished()).map((job) => [job.id, job.claims.length])).toEqual([[open, 1]])
    })

    it('a job that succeeds releases in reverse order and closes', async () => {
      const result = await runJob({ journal, releasers: world.releasers, kind: 'backup', args: {} }, async (claims) => {
        const a = await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
        await claims.take('partialFile', { path: 'b' }, [a.id], world.make('b'))
        return 'done'
      })
      expect(result).toBe('done')
      expect(world.log).toEqual(['release b', 'release a'])
      expect(await journal.unfinished()).toEqual([])
    })

    it('a job that fails releases as well, and its own error comes out', async () => {
      const failure = new AgentError('GUEST', 'quiesce failed')
      const run = runJob({ journal, releasers: world.releasers, kind: 'backup', args: {} }, async (claims) => {
        await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
        throw failure
      })
      await expect(run).rejects.toBe(failure)
      expect(world.there.size).toBe(0)
      expect(await journal.unfinished()).toEqual([])
    })

    it('an effect that happened although its call failed is looked up and released', async () => {
      world.failAfterEffect = new AgentError('UNAVAILABLE', 'answer lost')
      const job = await journal.begin('backup', {})
      await using claims = createClaims(journal, world.releasers, job)
      await expect(claims.take('partialFile', { path: 'a' }, [], world.make('a'))).rejects.toBe(world.failAfterEffect)
      expect(world.there.size).toBe(0)
      expect(claims.held).toEqual([])
    })

    it('reports both errors when what failed cannot be released, the first cause first, and keeps the claim', async () => {
      world.failAfterEffect = new AgentError('UNAVAILABLE', 'answer lost')
      world.failRelease.set('a', new AgentError('CONFLICT', 'file is locked'))
      const job = await journal.begin('backup', {})
      const claims = createClaims(journal, world.releasers, job)
      const error = await claims.take('partialFile', { path: 'a' }, [], world.make('a')).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(SuppressedError)
      expect(error).toMatchObject({ suppressed: world.failAfterEffect, error: { code: 'CONFLICT' } })
      expect((await journal.unfinished())[0]?.claims[0]).toMatchObject({ keptReason: 'file is locked', state: 'confirmed' })
    })

    it('keeps a claim while one that depends on it cannot be released, and goes on with the others', async () => {
      world.failRelease.set('disk', new AgentError('UNAVAILABLE', 'host is away'))
      const run = runJob({ journal, releasers: world.releasers, kind: 'backup', args: {} }, async (claims) => {
        const lock = await claims.take('partialFile', { path: 'lock' }, [], world.make('lock'))
        await claims.take('partialFile', { path: 'other' }, [lock.id], world.make('other'))
        const snapshot = await claims.take('partialFile', { path: 'snapshot' }, [lock.id], world.make('snapshot'))
        await claims.take('partialFile', { path: 'disk' }, [snapshot.id], world.make('disk'))
        throw new AgentError('INTEGRITY', 'short read')
      })
      const error = await run.catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(LeftError)
      expect(error).toMatchObject({ code: 'INTEGRITY', cause: { message: 'short read' }, kept: [{}, {}, {}] })
      expect(String(error)).toMatch(
        /short read Still held: the unfinished disk \(host is away\); .*unfinished snapshot.*; .*unfinished lock/,
      )
      expect(world.log).toEqual(['release disk', 'release other'])
      const [left] = await journal.unfinished()
      expect(left).toMatchObject({ owner: undefined, outcome: { result: 'failed', reason: 'short read' } })
      expect(left?.claims.map((claim) => (claim.args as { path: string }).path)).toEqual(['lock', 'snapshot', 'disk'])
      expect(left?.claims.every((claim) => claim.keptReason !== undefined)).toBe(true)

      // Once the host is back, any recovery finishes the work, also in the same process.
      world.failRelease.clear()
      world.log.length = 0
      const report = await recover({ as: ALICE, alive: [ALICE] })
      expect(world.log).toEqual(['release disk', 'release snapshot', 'release lock'])
      expect(report.recovered).toMatchObject([
        { closed: true, claims: [{ result: 'released' }, { result: 'released' }, { result: 'released' }] },
      ])
      expect(await journal.unfinished()).toEqual([])
    })

    it('two releases that fail are both told', async () => {
      world.failRelease.set('a', new AgentError('CONFLICT', 'a is busy'))
      world.failRelease.set('b', new AgentError('UNAVAILABLE', 'b is away'))
      const error = await runJob({ journal, releasers: world.releasers, kind: 'x', args: {} }, async (claims) => {
        await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
        await claims.take('partialFile', { path: 'b' }, [], world.make('b'))
      }).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'UNAVAILABLE', cause: { errors: [{ message: 'b is away' }, { message: 'a is busy' }] } })
      expect(String(error)).toContain('a is busy')
    })

    it('releases one early, but not from under another', async () => {
      const job = await journal.begin('backup', {})
      await using claims = createClaims(journal, world.releasers, job)
      const a = await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
      const b = await claims.take('partialFile', { path: 'b' }, [a.id], world.make('b'))
      await expect(claims.release(a.id)).rejects.toMatchObject({ code: 'CONFLICT' })
      await claims.release(b.id)
      await claims.release(b.id)
      await claims.release(a.id)
      expect(world.log).toEqual(['release b', 'release a'])
    })

    it('lets the user keep what was made', async () => {
      await runJob({ journal, releasers: world.releasers, kind: 'restore', args: {} }, async (claims) => {
        const made = await claims.take('partialFile', { path: 'vm' }, [], world.make('vm'))
        await claims.take('partialFile', { path: 'scratch' }, [], world.make('scratch'))
        await claims.keep(made.id)
      })
      expect(world.log).toEqual(['release scratch'])
      expect(await journal.unfinished()).toEqual([])
    })

    it('a lease outlives its process, is left alone until it runs out, then released', async () => {
      const until = new Date(clock.time + 3_600_000)
      await runJob({ journal, releasers: world.releasers, kind: 'mount', args: {} }, async (claims) => {
        await claims.take('partialFile', { path: 'a' }, [], world.make('a'))
        await claims.detach(until)
      })
      expect(world.log).toEqual([])
      expect((await journal.unfinished())[0]).toMatchObject({ owner: undefined, leaseUntil: until })
      expect((await recover()).untouched).toMatchObject([{ reason: `leased until ${until.toISOString()}` }])
      clock.time = until.getTime() + 1
      expect((await recover()).recovered).toMatchObject([{ closed: true }])
      expect(world.there.size).toBe(0)
    })

    it('another process ends a lease', async () => {
      const job = await take(['a', 'b'])
      await createClaims(journal, world.releasers, job).detach(new Date(clock.time + 1_000_000))
      const bob = await subject.as(BOB)
      {
        await using claims = await resumeClaims(bob, world.releasers, job)
        expect(claims.held.map((claim) => claim.state)).toEqual(['confirmed', 'confirmed'])
        await expect(resumeClaims(journal, world.releasers, job)).rejects.toMatchObject({ code: 'CONFLICT' })
      }
      expect(world.log).toEqual(['release b', 'release a'])
      await expect(resumeClaims(bob, world.releasers, 'none' as JobId)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    it('recovery leaves the jobs of living processes alone', async () => {
      await take(['a'])
      const report = await recover({ alive: [ALICE] })
      expect(report).toMatchObject({ recovered: [], untouched: [{ reason: 'process 101 is running it' }] })
      expect(world.there.size).toBe(1)
    })

    it('recovery finds an unconfirmed effect by its claim id, and drops an intent without effect', async () => {
      const job = await journal.begin('backup', {})
      const happened = await journal.intend(job, 'partialFile', { path: 'a' }, [])
      await journal.intend(job, 'partialFile', { path: 'b' }, [happened])
      world.there.set(happened, 'a')
      const report = await recover()
      expect(report.recovered[0]?.claims.map((claim) => claim.result)).toEqual(['absent', 'released'])
      expect(world.there.size).toBe(0)
      expect(await journal.unfinished()).toEqual([])
    })

    it('recovery keeps what nobody knows how to release, and says so', async () => {
      const job = await journal.begin('backup', {})
      const claim = await journal.intend(job, 'somethingNewer', {}, [])
      const report = await recover()
      expect(report.recovered[0]).toMatchObject({ closed: false, claims: [{ claim, result: 'kept' }] })
      expect(report.recovered[0]?.claims[0]?.reason).toContain('somethingNewer')
      expect(await journal.unfinished()).toHaveLength(1)
    })

    it('what is gone already counts as released', async () => {
      await take(['a'])
      world.there.clear()
      expect((await recover()).recovered).toMatchObject([{ closed: true, claims: [{ result: 'released' }] }])
    })

    it('recovers one job alone when asked', async () => {
      const first = await take(['a'])
      const second = await take(['b'])
      await recover({ job: second })
      expect((await journal.unfinished()).map((open) => open.id)).toEqual([first])
    })

    it('two recoveries at once release each claim once', async () => {
      for (const path of ['a', 'b', 'c', 'd']) await take([path])
      // Each knows that the other lives: what one has adopted is not the next one's to adopt.
      const other = { pid: 103, bootId: 'boot-1', startTime: 1 }
      await Promise.all([recover({ alive: [BOB, other] }), recover({ alive: [BOB, other], as: other })])
      expect([...world.log].sort()).toEqual(['release a', 'release b', 'release c', 'release d'])
      expect(await journal.unfinished()).toEqual([])
    })

    it('cut at any journal call or effect, recovery leaves nothing', async () => {
      const failures: string[] = []
      const steps = async (tick: (what: string) => void, cut: Journal): Promise<void> => {
        await runJob({ journal: cut, releasers: dying(world, tick), kind: 'backup', args: {} }, async (claims) => {
          let below: ClaimId[] = []
          for (const path of ['lock', 'snapshot', 'disk']) {
            const held = await claims.take('partialFile', { path }, below, async (id) => {
              tick('before the effect')
              world.there.set(id, path)
              tick('after the effect')
              return { path }
            })
            below = [held.id]
          }
        })
      }
      let total = Number.POSITIVE_INFINITY
      for (let cutAt = 1; cutAt <= total; cutAt++) {
        world.there.clear()
        let count = 0
        const tick = (): void => {
          count++
          // A cut process does nothing more: from the cut on, every step fails, also those of its clean-up.
          if (count >= cutAt) throw new AgentError('INTERNAL', 'power cut')
        }
        const ended = await Promise.allSettled([steps(tick, cutting(journal, tick))])
        if (ended[0].status === 'fulfilled') total = count
        await recover()
        if (world.there.size > 0 || (await journal.unfinished()).length > 0) failures.push(`cut at step ${cutAt}`)
      }
      expect(failures).toEqual([])
      expect(total).toBeGreaterThan(20)
    })
  })
}
