import { AgentError, type ClaimId, type Clock, type Ids, type JobId } from '../core/index.ts'
import type { CancelRequest, FinishedJob, JobOutcome, Journal, JournaledClaim, JournaledJob, PruneLimits } from './journal.ts'
import { assertOwner } from './job-owner.ts'
import { type ProcessIdentity, sameProcess } from './process.ts'

type Job = { -readonly [K in keyof Omit<JournaledJob, 'claims'>]: JournaledJob[K] } & { finishedAt: Date | undefined }
type Claim = { -readonly [K in keyof JournaledClaim]: JournaledClaim[K] } & { releasedAt: Date | undefined }

/** What several `MemoryJournal`s share when they stand for several processes over one journal. */
export class MemoryJournalRows {
  readonly jobs = new Map<JobId, Job>()
  readonly claims = new Map<ClaimId, Claim>()
}

/** A journal that dies with its process: for one-off work that holds nothing outside it, and for tests. Values pass through JSON as on disk. */
export class MemoryJournal implements Journal {
  readonly #clock: Clock
  readonly #ids: Ids
  readonly #self: ProcessIdentity
  readonly #rows: MemoryJournalRows

  constructor(clock: Clock, ids: Ids, self: ProcessIdentity, rows = new MemoryJournalRows()) {
    this.#clock = clock
    this.#ids = ids
    this.#self = self
    this.#rows = rows
  }

  async begin(kind: string, args: unknown, leaseUntil?: Date): Promise<JobId> {
    const id = this.#ids.job()
    const begunAt = this.#clock.now()
    const fixed = { id, kind, args: plain(args), leaseUntil, begunAt }
    this.#rows.jobs.set(id, {
      ...fixed,
      owner: this.#self,
      outcome: undefined,
      waitsFor: undefined,
      cancel: undefined,
      finishedAt: undefined,
    })
    return id
  }

  async intend(job: JobId, kind: string, args: unknown, dependsOn: readonly ClaimId[]): Promise<ClaimId> {
    await this.assertOwned(job)
    for (const other of dependsOn) {
      if (this.#claim(other)?.job !== job) {
        throw new AgentError('INTERNAL', `A claim was to depend on ${other}, which job ${job} does not hold.`)
      }
    }
    const id = this.#ids.claim()
    const intendedAt = this.#clock.now()
    const fixed = { id, job, kind, args: plain(args), dependsOn: [...dependsOn], intendedAt }
    const open = { keptReason: undefined, keptAt: undefined, attempts: 0, releasedAt: undefined }
    this.#rows.claims.set(id, { ...fixed, ...open, state: 'intended', ref: undefined })
    return id
  }

  async confirm(claim: ClaimId, ref: unknown): Promise<void> {
    const row = this.#claim(claim)
    if (row === undefined) throw new AgentError('INTERNAL', `Claim ${claim} is not held.`)
    this.#mayNote(row.job)
    row.state = 'confirmed'
    row.ref = plain(ref)
  }

  async released(claim: ClaimId): Promise<void> {
    const row = this.#claim(claim)
    if (row === undefined) return
    this.#mayNote(row.job)
    row.releasedAt = this.#clock.now()
  }

  async assertOwned(job: JobId): Promise<void> {
    const row = this.#job(job)
    if (row === undefined) throw new AgentError('INTERNAL', `Job ${job} is not open.`)
    assertOwner(job, row.owner, this.#self)
  }

  async finish(job: JobId, outcome: JobOutcome): Promise<void> {
    const row = this.#job(job)
    if (row === undefined) return
    assertOwner(job, row.owner, this.#self)
    const held = this.#openClaims(job)
    if (held.length > 0) throw new AgentError('INTERNAL', `Job ${job} cannot be finished: it holds ${held.map((c) => c.kind).join(', ')}.`)
    Object.assign(row, { finishedAt: this.#clock.now(), outcome, leaseUntil: undefined })
  }

  async unfinished(): Promise<readonly JournaledJob[]> {
    return [...this.#rows.jobs.values()]
      .filter((job) => job.finishedAt === undefined)
      .map(({ finishedAt: _none, ...job }) => ({
        ...job,
        claims: this.#openClaims(job.id).map(({ releasedAt: _none, ...claim }) => claim),
      }))
  }

  async adopt(job: JobId, from: ProcessIdentity | undefined): Promise<boolean> {
    const row = this.#job(job)
    if (row === undefined || !sameProcess(row.owner, from)) return false
    row.owner = this.#self
    row.leaseUntil = undefined
    row.waitsFor = undefined
    return true
  }

  async disown(job: JobId, leaseUntil?: Date, outcome?: JobOutcome): Promise<void> {
    const row = this.#job(job)
    if (row === undefined) return
    this.#mayNote(job)
    row.owner = undefined
    row.leaseUntil = leaseUntil
    row.waitsFor = undefined
    row.outcome = outcome ?? row.outcome
  }

  async kept(claim: ClaimId, reason: string): Promise<void> {
    const row = this.#claim(claim)
    if (row === undefined) return
    this.#mayNote(row.job)
    Object.assign(row, { keptReason: reason, keptAt: this.#clock.now(), attempts: row.attempts + 1 })
  }

  async requestCancel(job: JobId, by: string): Promise<boolean> {
    const row = this.#job(job)
    if (row === undefined) return false
    row.cancel ??= { by, at: this.#clock.now() }
    return true
  }

  async toCancel(): Promise<readonly CancelRequest[]> {
    return [...this.#rows.jobs.values()].flatMap((job) =>
      job.finishedAt === undefined && job.cancel !== undefined && sameProcess(job.owner, this.#self)
        ? [{ job: job.id, ...job.cancel }]
        : [],
    )
  }

  async waits(job: JobId, wait: string | undefined): Promise<void> {
    const row = this.#job(job)
    if (row === undefined) return
    this.#mayNote(job)
    row.waitsFor = wait
  }

  async finished(limit: number): Promise<readonly FinishedJob[]> {
    return this.#finished().slice(0, limit)
  }

  async prune({ jobs, before, atLeast = 0 }: PruneLimits): Promise<number> {
    const pruned = this.#finished().filter((job, index) => index >= jobs || (index >= atLeast && job.finishedAt < before))
    for (const { id } of pruned) {
      this.#rows.jobs.delete(id)
      for (const claim of this.#rows.claims.values()) if (claim.job === id) this.#rows.claims.delete(claim.id)
    }
    return pruned.length
  }

  async releasedAt(claim: ClaimId): Promise<Date | undefined> {
    return this.#rows.claims.get(claim)?.releasedAt
  }

  async reachesBackTo(): Promise<Date | undefined> {
    return [...this.#rows.jobs.values()]
      .map((job) => job.begunAt)
      .reduce<Date | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined)
  }

  #mayNote(job: JobId): void {
    assertOwner(job, this.#rows.jobs.get(job)?.owner, this.#self, 'orNobody')
  }

  #finished(): FinishedJob[] {
    return [...this.#rows.jobs.values()]
      .flatMap(({ id, kind, args, begunAt, finishedAt, outcome }) =>
        finishedAt === undefined || outcome === undefined ? [] : [{ id, kind, args, begunAt, finishedAt, outcome }],
      )
      .reverse()
  }

  #job(id: JobId): Job | undefined {
    const job = this.#rows.jobs.get(id)
    return job === undefined || job.finishedAt !== undefined ? undefined : job
  }

  #claim(id: ClaimId): Claim | undefined {
    const claim = this.#rows.claims.get(id)
    return claim === undefined || claim.releasedAt !== undefined ? undefined : claim
  }

  #openClaims(job: JobId): Claim[] {
    return [...this.#rows.claims.values()].filter((claim) => claim.job === job && claim.releasedAt === undefined)
  }
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))
