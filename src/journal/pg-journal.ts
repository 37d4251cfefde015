import { AgentError, type ClaimId, type Clock, type Ids, type JobId } from '../core/index.ts'
import { assertAlive, type PgSession, type PgState, pgStatement, type ProxyEpoch } from '../state/index.ts'
import { assertOwner, notOwner } from './job-owner.ts'
import { readClaim, readFinished, readJob, readOwner, readRequest, toJson } from './job-rows.ts'
import type { CancelRequest, FinishedJob, JobOutcome, JournaledClaim, JournaledJob, Journal, PruneLimits } from './journal.ts'
import { type ProcessIdentity, sameProcess } from './process.ts'

export type PgJournalOptions = {
  readonly state: PgState
  readonly clock: Clock
  readonly ids: Ids
  /** This process, as the registry of proxies knows it too. */
  readonly self: ProcessIdentity
  readonly epoch: ProxyEpoch
  /** Name of this machine: what jobs hold on it is released here. */
  readonly host?: string | undefined
}

/**
 * The journal in the database that several proxies share. Every call is one transaction. A process that was declared dead begins, intends, ends and adopts nothing
 * more (CANCELED): another one may be releasing what it held. What became of its claims it still notes until its job is adopted, and afterwards how to reach what
 * came too late. Ids are made before the transaction, so that one that runs again is the same.
 */
export class PgJournal implements Journal {
  readonly #state: PgState
  readonly #clock: Clock
  readonly #ids: Ids
  readonly #self: ProcessIdentity
  readonly #epoch: ProxyEpoch
  readonly #host: string | undefined

  constructor({ state, clock, ids, self, epoch, host }: PgJournalOptions) {
    this.#state = state
    this.#clock = clock
    this.#ids = ids
    this.#self = self
    this.#epoch = epoch
    this.#host = host
  }

  async begin(kind: string, args: unknown, leaseUntil?: Date): Promise<JobId> {
    const id = this.#ids.job()
    const { pid, bootId, startTime } = this.#self
    const at = this.#now()
    await this.#alive('job begun', (session) =>
      session.run(SQL.begin, id, kind, toJson(args), pid, bootId, startTime, leaseUntil?.toISOString() ?? null, at, this.#host ?? null),
    )
    return id
  }

  async intend(job: JobId, kind: string, args: unknown, dependsOn: readonly ClaimId[]): Promise<ClaimId> {
    const id = this.#ids.claim()
    const at = this.#now()
    await this.#alive('claim intended', async (session) => {
      await this.#assertOwned(session, job)
      const held = await session.all(SQL.openOf, job, dependsOn)
      const missing = dependsOn.find((other) => !held.includes(other))
      if (missing !== undefined) throw new AgentError('INTERNAL', `A claim was to depend on ${missing}, which job ${job} does not hold.`)
      await session.run(SQL.intend, id, job, kind, toJson(args), toJson(dependsOn), at)
    })
    return id
  }

  async confirm(claim: ClaimId, ref: unknown): Promise<void> {
    const taken = await this.#change('claim confirmed', async (session) => {
      const job = await session.get(SQL.jobOfAny, claim)
      const open = job === undefined ? undefined : await session.get(SQL.ownerOf, job)
      if (job !== undefined && open?.owner !== undefined && !sameProcess(open.owner, this.#self)) {
        await this.#noteLate(session, job, claim, ref)
        return notOwner(job, open.owner)
      }
      if ((await session.run(SQL.confirm, toJson(ref), claim)) === 0) throw new AgentError('INTERNAL', `Claim ${claim} is not held.`)
      return undefined
    })
    if (taken !== undefined) throw taken
  }

  /**
   * The effect of a process that was declared dead came after all. Who took its job over is told how to reach it; when the claim was given up as absent
   * meanwhile, it is open again, and its job with it, for the next recovery.
   */
  async #noteLate(session: PgSession, job: JobId, claim: ClaimId, ref: unknown): Promise<void> {
    if ((await session.run(SQL.confirmLate, toJson(ref), claim)) === 0) return
    await session.run(SQL.reopen, job)
  }

  async released(claim: ClaimId): Promise<void> {
    const at = this.#now()
    await this.#change('claim released', async (session) => {
      await this.#mayNoteOf(session, claim)
      await session.run(SQL.released, at, claim)
    })
  }

  async assertOwned(job: JobId): Promise<void> {
    await this.#alive('job owned', (session) => this.#assertOwned(session, job))
  }

  async finish(job: JobId, outcome: JobOutcome): Promise<void> {
    const at = this.#now()
    await this.#alive('job finished', async (session) => {
      // Locked, so that no claim is intended between the look and the end.
      const open = await session.get(SQL.ownerOf, job)
      if (open === undefined || open.finished) return
      assertOwner(job, open.owner, this.#self)
      const held = await session.all(SQL.openClaims, job)
      if (held.length > 0)
        throw new AgentError('INTERNAL', `Job ${job} cannot be finished: it holds ${held.map((each) => each.kind).join(', ')}.`)
      await session.run(SQL.finish, at, toJson(outcome), job)
    })
  }

  unfinished(): Promise<readonly JournaledJob[]> {
    return this.#state.reading(async (session) => {
      const jobs = await session.all(SQL.unfinished)
      const claims = Map.groupBy(await session.all(SQL.allOpenClaims), ({ job }) => job)
      return jobs.map((job): JournaledJob => ({ ...job, claims: claims.get(job.id) ?? [] }))
    })
  }

  adopt(job: JobId, from: ProcessIdentity | undefined): Promise<boolean> {
    const { pid, bootId, startTime } = this.#self
    return this.#alive('job adopted', async (session) => {
      const adopted = await session.run(
        SQL.adopt,
        pid,
        bootId,
        startTime,
        job,
        from?.pid ?? null,
        from?.bootId ?? null,
        from?.startTime ?? null,
      )
      return adopted === 1
    })
  }

  async disown(job: JobId, leaseUntil?: Date, outcome?: JobOutcome): Promise<void> {
    await this.#change('job disowned', async (session) => {
      await this.#mayNote(session, job)
      await session.run(SQL.disown, leaseUntil?.toISOString() ?? null, outcome === undefined ? null : toJson(outcome), job)
    })
  }

  async kept(claim: ClaimId, reason: string): Promise<void> {
    const at = this.#now()
    await this.#change('claim kept', async (session) => {
      await this.#mayNoteOf(session, claim)
      await session.run(SQL.kept, reason, at, claim)
    })
  }

  requestCancel(job: JobId, by: string): Promise<boolean> {
    const at = this.#now()
    return this.#change('cancel requested', async (session) => {
      if ((await session.get(SQL.openJob, job)) === undefined) return false
      await session.run(SQL.requestCancel, at, by, job)
      return true
    })
  }

  toCancel(): Promise<readonly CancelRequest[]> {
    const { pid, bootId, startTime } = this.#self
    return this.#state.all(SQL.toCancel, pid, bootId, startTime)
  }

  async waits(job: JobId, wait: string | undefined): Promise<void> {
    await this.#change('job waits', async (session) => {
      await this.#mayNote(session, job)
      await session.run(SQL.waits, wait ?? null, job)
    })
  }

  releasedAt(claim: ClaimId): Promise<Date | undefined> {
    return this.#state.get(SQL.releasedAt, claim)
  }

  reachesBackTo(): Promise<Date | undefined> {
    return this.#state.get(SQL.oldest)
  }

  finished(limit: number): Promise<readonly FinishedJob[]> {
    return this.#state.all(SQL.finished, limit)
  }

  async prune(keep: PruneLimits): Promise<number> {
    const limits = [keep.jobs, keep.before.toISOString(), keep.atLeast ?? 0] as const
    if ((await this.#state.get(SQL.prunable, ...limits)) === undefined) return 0
    return this.#state.transaction(
      'finished jobs forgotten',
      async (session) => {
        const jobs = await session.all(SQL.prunable, ...limits)
        await session.run(SQL.pruneLocks, jobs)
        await session.run(SQL.pruneClaims, jobs)
        return session.run(SQL.pruneJobs, jobs)
      },
      { lock: 'finished jobs forgotten' },
    )
  }

  /** Locks the job's row, so that it is adopted before this transaction or after it. */
  async #assertOwned(session: PgSession, job: JobId): Promise<void> {
    const open = await session.get(SQL.ownerOf, job)
    if (open === undefined || open.finished) throw new AgentError('INTERNAL', `Job ${job} is not open.`)
    assertOwner(job, open.owner, this.#self)
  }

  async #mayNote(session: PgSession, job: JobId): Promise<void> {
    const open = await session.get(SQL.ownerOf, job)
    if (open !== undefined && !open.finished) assertOwner(job, open.owner, this.#self, 'orNobody')
  }

  /** Of a claim that is not open any more nothing is noted. */
  async #mayNoteOf(session: PgSession, claim: ClaimId): Promise<void> {
    const job = await session.get(SQL.jobOf, claim)
    if (job !== undefined) await this.#mayNote(session, job)
  }

  #change<T>(what: string, change: (session: PgSession) => Promise<T>): Promise<T> {
    return this.#state.transaction(what, change)
  }

  #alive<T>(what: string, change: (session: PgSession) => Promise<T>): Promise<T> {
    return this.#state.transaction(what, async (session) => {
      await assertAlive(session, this.#epoch)
      return change(session)
    })
  }

  #now(): string {
    return this.#clock.now().toISOString()
  }
}

/** Forgotten by one call at most. */
const PRUNED_AT_ONCE = 10_000

const BEYOND = (last: string): string =>
  `sequence <= (SELECT sequence FROM job WHERE finished_at IS NOT NULL ORDER BY sequence DESC LIMIT 1 OFFSET ${last})`

type Text = string | null
type Owner = [number, string, number]

const SQL = {
  begin: pgStatement<[string, string, string, ...Owner, Text, string, Text]>(
    `INSERT INTO job (id, kind, args, owner_pid, owner_boot, owner_start, lease_until, begun_at, host)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
  ),
  openJob: pgStatement<[string], string>('SELECT id FROM job WHERE id = $1 AND finished_at IS NULL FOR UPDATE', (row) => row.text('id')),
  openOf: pgStatement<[string, readonly string[]], string>(
    `SELECT id FROM claim WHERE job = $1 AND id = ANY ($2::text[]) AND state <> 'released'`,
    (row) => row.text('id'),
  ),
  intend: pgStatement<[string, string, string, string, string, string]>(
    `INSERT INTO claim (id, job, kind, args, depends_on, intended_at, state) VALUES ($1, $2, $3, $4, $5, $6, 'intended')`,
  ),
  confirm: pgStatement<[string, string]>(`UPDATE claim SET state = 'confirmed', ref = $1 WHERE id = $2 AND state <> 'released'`),
  released: pgStatement<[string, string]>(
    `UPDATE claim SET state = 'released', released_at = $1, kept_reason = NULL WHERE id = $2 AND state <> 'released'`,
  ),
  kept: pgStatement<[string, string, string]>(
    `UPDATE claim SET kept_reason = $1, kept_at = $2, attempts = attempts + 1 WHERE id = $3 AND state <> 'released'`,
  ),
  requestCancel: pgStatement<[string, string, string]>(
    `UPDATE job SET cancel_requested_at = $1, cancel_requested_by = $2
     WHERE id = $3 AND finished_at IS NULL AND cancel_requested_at IS NULL`,
  ),
  waits: pgStatement<[Text, string]>('UPDATE job SET waits_for = $1 WHERE id = $2 AND finished_at IS NULL'),
  toCancel: pgStatement<Owner, CancelRequest>(
    `SELECT id, cancel_requested_at, cancel_requested_by FROM job
     WHERE finished_at IS NULL AND cancel_requested_at IS NOT NULL AND owner_pid = $1 AND owner_boot = $2 AND owner_start = $3
     ORDER BY sequence LIMIT 10000`,
    readRequest,
  ),
  releasedAt: pgStatement<[string], Date>(
    `SELECT released_at FROM claim WHERE id = $1 AND state = 'released' AND released_at IS NOT NULL`,
    (row) => new Date(row.text('released_at')),
  ),
  oldest: pgStatement<[], Date>('SELECT begun_at FROM job ORDER BY begun_at LIMIT 1', (row) => new Date(row.text('begun_at'))),
  finished: pgStatement<[number], FinishedJob>(
    'SELECT * FROM job WHERE finished_at IS NOT NULL ORDER BY sequence DESC LIMIT $1',
    readFinished,
  ),
  prunable: pgStatement<[number, string, number], string>(
    `SELECT id FROM job WHERE finished_at IS NOT NULL AND (${BEYOND('$1')} OR (finished_at < $2 AND ${BEYOND('$3')})) LIMIT ${PRUNED_AT_ONCE}`,
    (row) => row.text('id'),
  ),
  pruneLocks: pgStatement<[readonly string[]]>('DELETE FROM vm_lock WHERE claim IN (SELECT id FROM claim WHERE job = ANY ($1::text[]))'),
  pruneClaims: pgStatement<[readonly string[]]>('DELETE FROM claim WHERE job = ANY ($1::text[])'),
  pruneJobs: pgStatement<[readonly string[]]>('DELETE FROM job WHERE id = ANY ($1::text[])'),
  finish: pgStatement<[string, string, string]>(
    'UPDATE job SET finished_at = $1, outcome = $2, lease_until = NULL WHERE id = $3 AND finished_at IS NULL',
  ),
  unfinished: pgStatement<[], Omit<JournaledJob, 'claims'>>('SELECT * FROM job WHERE finished_at IS NULL ORDER BY sequence', (row) => ({
    ...readJob(row),
    host: row.optionalText('host'),
  })),
  openClaims: pgStatement<[string], JournaledClaim>(
    `SELECT * FROM claim WHERE job = $1 AND state <> 'released' ORDER BY sequence`,
    readClaim,
  ),
  allOpenClaims: pgStatement<[], JournaledClaim>(
    `SELECT claim.* FROM claim JOIN job ON job.id = claim.job WHERE job.finished_at IS NULL AND claim.state <> 'released' ORDER BY claim.sequence`,
    readClaim,
  ),
  adopt: pgStatement<[...Owner, string, number | null, Text, number | null]>(
    `UPDATE job SET owner_pid = $1, owner_boot = $2, owner_start = $3, waits_for = NULL, lease_until = NULL
     WHERE id = $4 AND finished_at IS NULL AND owner_pid IS NOT DISTINCT FROM $5::bigint AND owner_boot IS NOT DISTINCT FROM $6::text
       AND owner_start IS NOT DISTINCT FROM $7::bigint`,
  ),
  disown: pgStatement<[Text, Text, string]>(
    `UPDATE job SET owner_pid = NULL, owner_boot = NULL, owner_start = NULL, waits_for = NULL, lease_until = $1, outcome = coalesce($2, outcome)
     WHERE id = $3 AND finished_at IS NULL`,
  ),
  ownerOf: pgStatement<[string], { readonly owner: ProcessIdentity | undefined; readonly finished: boolean }>(
    'SELECT owner_pid, owner_boot, owner_start, finished_at FROM job WHERE id = $1 FOR UPDATE',
    (row) => ({ owner: readOwner(row), finished: row.optionalText('finished_at') !== undefined }),
  ),
  jobOf: pgStatement<[string], JobId>(`SELECT job FROM claim WHERE id = $1 AND state <> 'released'`, (row) => row.text('job') as JobId),
  jobOfAny: pgStatement<[string], JobId>('SELECT job FROM claim WHERE id = $1', (row) => row.text('job') as JobId),
  confirmLate: pgStatement<[string, string]>(
    `UPDATE claim SET state = 'confirmed', ref = $1, released_at = NULL
     WHERE id = $2 AND (state = 'intended' OR (state = 'released' AND ref IS NULL))`,
  ),
  reopen: pgStatement<[string]>(
    `UPDATE job SET finished_at = NULL, owner_pid = NULL, owner_boot = NULL, owner_start = NULL WHERE id = $1 AND finished_at IS NOT NULL`,
  ),
}
