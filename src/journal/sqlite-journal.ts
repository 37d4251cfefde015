import { AgentError, type ClaimId, type Clock, type Ids, type JobId } from '../core/index.ts'
import type { State } from '../state/index.ts'
import { assertOwner } from './job-owner.ts'
import { readClaim, readFinished, readJob, readOwner, readRequest, toJson } from './job-rows.ts'
import type { CancelRequest, FinishedJob, JobOutcome, JournaledClaim, JournaledJob, Journal, PruneLimits } from './journal.ts'
import type { ProcessIdentity, Processes } from './process.ts'

export type SqliteJournalOptions = {
  readonly state: State
  readonly clock: Clock
  readonly ids: Ids
  readonly processes: Processes
}

/** The journal in the agent's database. Every call is one transaction. */
export async function openSqliteJournal(options: SqliteJournalOptions): Promise<Journal> {
  return new SqliteJournal(options.state, options.clock, options.ids, await options.processes.self())
}

class SqliteJournal implements Journal {
  readonly #state: State
  readonly #clock: Clock
  readonly #ids: Ids
  readonly #self: ProcessIdentity
  readonly #sql: ReturnType<typeof prepare>

  constructor(state: State, clock: Clock, ids: Ids, self: ProcessIdentity) {
    this.#state = state
    this.#clock = clock
    this.#ids = ids
    this.#self = self
    this.#sql = prepare(state)
  }

  async begin(kind: string, args: unknown, leaseUntil?: Date): Promise<JobId> {
    const id = this.#ids.job()
    const { pid, bootId, startTime } = this.#self
    const lease = leaseUntil?.toISOString() ?? null
    this.#state.transaction('job begun', () => this.#sql.begin.run(id, kind, toJson(args), pid, bootId, startTime, lease, this.#now()))
    return id
  }

  async intend(job: JobId, kind: string, args: unknown, dependsOn: readonly ClaimId[]): Promise<ClaimId> {
    const id = this.#ids.claim()
    this.#state.transaction('claim intended', () => {
      this.#assertOwned(job)
      for (const other of dependsOn) {
        if (this.#sql.openClaim.get(other, job) === undefined) {
          throw new AgentError('INTERNAL', `A claim was to depend on ${other}, which job ${job} does not hold.`)
        }
      }
      this.#sql.intend.run(id, job, kind, toJson(args), toJson(dependsOn), this.#now())
    })
    return id
  }

  async confirm(claim: ClaimId, ref: unknown): Promise<void> {
    this.#state.note('claim confirmed', () => {
      this.#mayNoteOf(claim)
      if (this.#sql.confirm.run(toJson(ref), claim) === 0) throw new AgentError('INTERNAL', `Claim ${claim} is not held.`)
    })
  }

  async released(claim: ClaimId): Promise<void> {
    this.#state.note('claim released', () => {
      this.#mayNoteOf(claim)
      this.#sql.released.run(this.#now(), claim)
    })
  }

  async assertOwned(job: JobId): Promise<void> {
    this.#assertOwned(job)
  }

  async finish(job: JobId, outcome: JobOutcome): Promise<void> {
    this.#state.transaction('job finished', () => {
      const open = this.#sql.ownerOf.get(job)
      if (open === undefined) return
      assertOwner(job, open.owner, this.#self)
      const held = this.#sql.openClaims.all(job)
      if (held.length > 0)
        throw new AgentError('INTERNAL', `Job ${job} cannot be finished: it holds ${held.map((c) => c.kind).join(', ')}.`)
      this.#sql.finish.run(this.#now(), toJson(outcome), job)
    })
  }

  async unfinished(): Promise<readonly JournaledJob[]> {
    return this.#state.reading(() => this.#sql.unfinished.all().map((job) => ({ ...job, claims: this.#sql.openClaims.all(job.id) })))
  }

  async adopt(job: JobId, from: ProcessIdentity | undefined): Promise<boolean> {
    const { pid, bootId, startTime } = this.#self
    return this.#state.transaction(
      'job adopted',
      () => this.#sql.adopt.run(pid, bootId, startTime, job, from?.pid ?? null, from?.bootId ?? null, from?.startTime ?? null) === 1,
    )
  }

  async disown(job: JobId, leaseUntil?: Date, outcome?: JobOutcome): Promise<void> {
    const lease = leaseUntil?.toISOString() ?? null
    this.#state.transaction('job disowned', () => {
      this.#mayNote(job)
      this.#sql.disown.run(lease, outcome === undefined ? null : toJson(outcome), job)
    })
  }

  async kept(claim: ClaimId, reason: string): Promise<void> {
    this.#state.transaction('claim kept', () => {
      this.#mayNoteOf(claim)
      this.#sql.kept.run(reason, this.#now(), claim)
    })
  }

  async requestCancel(job: JobId, by: string): Promise<boolean> {
    return this.#state.transaction('cancel requested', () => {
      if (this.#sql.openJob.get(job) === undefined) return false
      this.#sql.requestCancel.run(this.#now(), by, job)
      return true
    })
  }

  async toCancel(): Promise<readonly CancelRequest[]> {
    const { pid, bootId, startTime } = this.#self
    return this.#sql.toCancel.all(pid, bootId, startTime)
  }

  async waits(job: JobId, wait: string | undefined): Promise<void> {
    this.#state.note('job waits', () => {
      this.#mayNote(job)
      this.#sql.waits.run(wait ?? null, job)
    })
  }

  async releasedAt(claim: ClaimId): Promise<Date | undefined> {
    return this.#sql.releasedAt.get(claim)
  }

  async reachesBackTo(): Promise<Date | undefined> {
    return this.#sql.oldest.get()
  }

  async finished(limit: number): Promise<readonly FinishedJob[]> {
    return this.#sql.finished.all(limit)
  }

  async prune(keep: PruneLimits): Promise<number> {
    const before = keep.before.toISOString()
    const atLeast = keep.atLeast ?? 0
    if (this.#sql.prunable.get(keep.jobs, before, atLeast) === undefined) return 0
    return this.#state.transaction('finished jobs forgotten', () => {
      this.#sql.pruneLocks.run(keep.jobs, before, atLeast)
      this.#sql.pruneClaims.run(keep.jobs, before, atLeast)
      return this.#sql.pruneJobs.run(keep.jobs, before, atLeast)
    })
  }

  #assertOwned(job: JobId): void {
    const open = this.#sql.ownerOf.get(job)
    if (open === undefined) throw new AgentError('INTERNAL', `Job ${job} is not open.`)
    assertOwner(job, open.owner, this.#self)
  }

  #mayNote(job: JobId): void {
    const open = this.#sql.ownerOf.get(job)
    if (open !== undefined) assertOwner(job, open.owner, this.#self, 'orNobody')
  }

  /** Of a claim that is not open any more nothing is noted, so it is nobody's. */
  #mayNoteOf(claim: ClaimId): void {
    const job = this.#sql.jobOf.get(claim)
    if (job !== undefined) this.#mayNote(job)
  }

  #now(): string {
    return this.#clock.now().toISOString()
  }
}

const BEYOND = (last: string): string =>
  `sequence <= (SELECT sequence FROM job WHERE finished_at IS NOT NULL ORDER BY sequence DESC LIMIT 1 OFFSET ${last})`
/** Finished jobs beyond the last ?1, and those that finished before ?2 but are not among the last ?3. */
const PRUNED = `finished_at IS NOT NULL AND (${BEYOND('?1')} OR (finished_at < ?2 AND ${BEYOND('?3')}))`

function prepare(state: State) {
  return {
    begin: state.statement<[string, string, string, number, string, number, string | null, string]>(
      `INSERT INTO job (id, kind, args, owner_pid, owner_boot, owner_start, lease_until, begun_at, sequence)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(sequence), 0) + 1 FROM job))`,
    ),
    ownerOf: state.statement<[string], { readonly owner: ProcessIdentity | undefined }>(
      'SELECT owner_pid, owner_boot, owner_start FROM job WHERE id = ? AND finished_at IS NULL',
      (row) => ({ owner: readOwner(row) }),
    ),
    jobOf: state.statement<[string], JobId>(
      `SELECT job FROM claim WHERE id = ? AND state <> 'released'`,
      (row) => row.text('job') as JobId,
    ),
    openJob: state.statement<[string], string>('SELECT id FROM job WHERE id = ? AND finished_at IS NULL', (row) => row.text('id')),
    releasedAt: state.statement<[string], Date>(
      `SELECT released_at FROM claim WHERE id = ? AND state = 'released' AND released_at IS NOT NULL`,
      (row) => new Date(row.text('released_at')),
    ),
    oldest: state.statement<[], Date>('SELECT begun_at FROM job ORDER BY begun_at LIMIT 1', (row) => new Date(row.text('begun_at'))),
    openClaim: state.statement<[string, string], string>(`SELECT id FROM claim WHERE id = ? AND job = ? AND state <> 'released'`, (row) =>
      row.text('id'),
    ),
    intend: state.statement<[string, string, string, string, string, string]>(
      `INSERT INTO claim (id, job, kind, args, depends_on, intended_at, state, sequence)
       VALUES (?, ?, ?, ?, ?, ?, 'intended', (SELECT coalesce(max(sequence), 0) + 1 FROM claim))`,
    ),
    confirm: state.statement<[string, string]>(`UPDATE claim SET state = 'confirmed', ref = ? WHERE id = ? AND state <> 'released'`),
    released: state.statement<[string, string]>(
      `UPDATE claim SET state = 'released', released_at = ?, kept_reason = NULL WHERE id = ? AND state <> 'released'`,
    ),
    kept: state.statement<[string, string, string]>(
      `UPDATE claim SET kept_reason = ?, kept_at = ?, attempts = attempts + 1 WHERE id = ? AND state <> 'released'`,
    ),
    requestCancel: state.statement<[string, string, string]>(
      'UPDATE job SET cancel_requested_at = ?, cancel_requested_by = ? WHERE id = ? AND finished_at IS NULL AND cancel_requested_at IS NULL',
    ),
    waits: state.statement<[string | null, string]>('UPDATE job SET waits_for = ? WHERE id = ? AND finished_at IS NULL'),
    toCancel: state.statement<[number, string, number], CancelRequest>(
      `SELECT id, cancel_requested_at, cancel_requested_by FROM job
       WHERE finished_at IS NULL AND cancel_requested_at IS NOT NULL AND owner_pid = ? AND owner_boot = ? AND owner_start = ? ORDER BY sequence`,
      readRequest,
    ),
    finished: state.statement<[number], FinishedJob>(
      'SELECT * FROM job WHERE finished_at IS NOT NULL ORDER BY sequence DESC LIMIT ?',
      readFinished,
    ),
    prunable: state.statement<[number, string, number], string>(`SELECT id FROM job WHERE ${PRUNED} LIMIT 1`, (row) => row.text('id')),
    pruneLocks: state.statement<[number, string, number]>(
      `DELETE FROM vm_lock WHERE claim IN (SELECT id FROM claim WHERE job IN (SELECT id FROM job WHERE ${PRUNED}))`,
    ),
    pruneClaims: state.statement<[number, string, number]>(`DELETE FROM claim WHERE job IN (SELECT id FROM job WHERE ${PRUNED})`),
    pruneJobs: state.statement<[number, string, number]>(`DELETE FROM job WHERE ${PRUNED}`),
    finish: state.statement<[string, string, string]>(
      'UPDATE job SET finished_at = ?, outcome = ?, lease_until = NULL WHERE id = ? AND finished_at IS NULL',
    ),
    unfinished: state.statement<[], Omit<JournaledJob, 'claims'>>('SELECT * FROM job WHERE finished_at IS NULL ORDER BY sequence', readJob),
    openClaims: state.statement<[string], JournaledClaim>(
      `SELECT * FROM claim WHERE job = ? AND state <> 'released' ORDER BY sequence`,
      readClaim,
    ),
    adopt: state.statement<[number, string, number, string, number | null, string | null, number | null]>(
      `UPDATE job SET owner_pid = ?, owner_boot = ?, owner_start = ?, waits_for = NULL, lease_until = NULL
       WHERE id = ? AND finished_at IS NULL AND owner_pid IS ? AND owner_boot IS ? AND owner_start IS ?`,
    ),
    disown: state.statement<[string | null, string | null, string]>(
      `UPDATE job SET owner_pid = NULL, owner_boot = NULL, owner_start = NULL, waits_for = NULL, lease_until = ?, outcome = coalesce(?, outcome)
       WHERE id = ? AND finished_at IS NULL`,
    ),
  }
}
