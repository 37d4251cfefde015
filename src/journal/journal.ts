import type { ClaimId, JobId } from '../core/index.ts'
import type { ProcessIdentity } from './process.ts'

/**
 * What the agent holds right now, durable. One row per job, one per claim; a claim's intent is on disk before its effect starts.
 * Every call is atomic by itself and durable when it resolves. Errors: CAPACITY (state disk full), INTEGRITY (state file damaged), and CONFLICT, which
 * changes nothing, about a job that another process has adopted: this one was thought dead. Of a job that nobody answers for, whoever had it may still note
 * what became of its claims, but takes and ends nothing.
 */
export interface JobJournal {
  /** Opens a job owned by this process. `args` must be plain JSON. With `leaseUntil` the job outlives its process until that moment. */
  begin(kind: string, args: unknown, leaseUntil?: Date): Promise<JobId>
  /**
   * Records that the effect of a claim is about to be tried; durable before the effect. `dependsOn` names claims of the same job that
   * must not be released before this one. INTERNAL when the job is finished or a dependency is unknown.
   */
  intend(job: JobId, kind: string, args: unknown, dependsOn: readonly ClaimId[]): Promise<ClaimId>
  /** The effect exists and `ref` (plain JSON) is how to reach it. Idempotent; called again with another `ref`, that one counts. */
  confirm(claim: ClaimId, ref: unknown): Promise<void>
  /** The effect is gone, or never came to be. Idempotent. */
  released(claim: ClaimId): Promise<void>
  /** Nothing when this process answers for the job, CONFLICT otherwise. Asked before each release: what another one has adopted is not touched. */
  assertOwned(job: JobId): Promise<void>
  /** Closes a job. INTERNAL while it holds a claim: a job with something left is never finished. */
  finish(job: JobId, outcome: JobOutcome): Promise<void>
  /** Every job not finished, oldest first, with its open claims in the order they were taken. */
  unfinished(): Promise<readonly JournaledJob[]>
}

/** Who answers for a job. Beside `JobJournal` because only `Claims` and recovery use it. */
export interface JobOwnership {
  /**
   * Makes this process the owner, if the owner is still `from` (undefined = nobody). False when another process was faster.
   * The lease ends: the adopter answers for the job.
   */
  adopt(job: JobId, from: ProcessIdentity | undefined): Promise<boolean>
  /**
   * Gives the job away: to nobody until `leaseUntil` (a lease, left alone until then), or at once (something could not be released;
   * any recovery may take it over). `outcome` is what the job itself came to.
   */
  disown(job: JobId, leaseUntil?: Date, outcome?: JobOutcome): Promise<void>
  /** Notes that an attempt to release a claim failed, when and why, and counts it: for `vcb status` and for the pause until the next one. */
  kept(claim: ClaimId, reason: string): Promise<void>
}

/** The wish to end a job, from any process to the one that runs it. Beside `JobJournal` because only `vcb cancel` and `CancelWatch` use it. */
export interface CancelRequests {
  /** Records the wish; the first one counts. False when the job is finished or there is none. `by` is shown: `vcb cancel by root`. */
  requestCancel(job: JobId, by: string): Promise<boolean>
  /** The open jobs of this process that are to be canceled. Asked about once a second while a job runs. */
  toCancel(): Promise<readonly CancelRequest[]>
}

/** What a running job waits for, so that other processes can show it. Beside `JobJournal` because only a wait for a limit of the agent is told. */
export interface JobWaits {
  /** Notes it in words, or that the wait is over. Of a job that has ended it is forgotten. */
  waits(job: JobId, wait: string | undefined): Promise<void>
}

/** Finished jobs, for lists. */
export interface JobList {
  /** The last finished jobs, the one that began last first; at most `limit`. */
  finished(limit: number): Promise<readonly FinishedJob[]>
  /** Forgets finished jobs, with their claims; how many. Called once by each command that begins a job, so that the file does not grow for ever. */
  prune(keep: PruneLimits): Promise<number>
}

/** All but the last `jobs` are forgotten, and those that finished before `before`; of these not the last `atLeast`, for clocks that step. */
export type PruneLimits = { readonly jobs: number; readonly before: Date; readonly atLeast?: number | undefined }

/** What became of claims that are not open any more. Beside `JobJournal` because only the search for orphans asks. */
export interface ClaimHistory {
  /** When the claim was released; undefined while it is open, and for a claim this journal never knew or has forgotten. */
  releasedAt(claim: ClaimId): Promise<Date | undefined>
  /** When the oldest job it still knows began; undefined when it knows none. A claim made earlier may be of a journal that was lost. */
  reachesBackTo(): Promise<Date | undefined>
}

export type Journal = JobJournal & JobOwnership & CancelRequests & JobWaits & JobList & ClaimHistory

export type CancelRequest = { readonly job: JobId; readonly by: string; readonly at: Date }

export type FinishedJob = Pick<JournaledJob, 'id' | 'kind' | 'args' | 'begunAt'> & {
  readonly finishedAt: Date
  readonly outcome: JobOutcome
}

/** How a job ended, for lists; not read by recovery. */
export type JobOutcome = {
  readonly result: 'succeeded' | 'failed' | 'canceled' | 'recovered'
  readonly reason?: string | undefined
  /** Plain JSON for who asked for the end: of a lease, how its disks were read. */
  readonly facts?: unknown
}

export type JournaledJob = {
  readonly id: JobId
  readonly kind: string
  readonly args: unknown
  /** Undefined: nobody answers for it (detached, or given up with something left). */
  readonly owner: ProcessIdentity | undefined
  readonly leaseUntil: Date | undefined
  readonly begunAt: Date
  /** Name of the machine it was begun on, in a journal of several; undefined in one of this machine alone. */
  readonly host?: string | undefined
  /** Set when the job itself ended but something of it is still held. */
  readonly outcome: JobOutcome | undefined
  /** What it waits for, in words; undefined while it works. */
  readonly waitsFor: string | undefined
  /** Set when somebody asked the owner to end it. */
  readonly cancel: Omit<CancelRequest, 'job'> | undefined
  readonly claims: readonly JournaledClaim[]
}

/** A claim as read back. `kind` and the shapes are what some version of the agent wrote, so they are unknown until a releaser takes them. */
export type JournaledClaim = {
  readonly id: ClaimId
  readonly job: JobId
  readonly kind: string
  readonly args: unknown
  readonly dependsOn: readonly ClaimId[]
  /** `intended`: the effect may or may not exist. */
  readonly state: 'intended' | 'confirmed'
  readonly ref: unknown
  /** Undefined only on the claims of a running job, where nobody asks. */
  readonly intendedAt: Date | undefined
  /** Why the last attempt to release it failed. */
  readonly keptReason: string | undefined
  /** When that was. */
  readonly keptAt: Date | undefined
  /** Failed attempts to release it. */
  readonly attempts: number
}
