import type { BackupMode, ErrorCode, VmRef } from '../core/index.ts'

/** ISO 8601: 1 = Monday … 7 = Sunday. */
export type Weekday = 1 | 2 | 3 | 4 | 5 | 6 | 7

/** A part of some days, in the schedule's time zone. */
export type Window = {
  /** The days on which it opens. */
  readonly days: readonly Weekday[]
  /** Minutes after midnight by the clock on the wall, 0 to 1439. */
  readonly from: number
  /** Minutes after midnight, 1 to 1440; at or before `from`: of the day after. */
  readonly to: number
}

/** A stretch of dates, in the schedule's time zone. */
export type Blackout = {
  /** ISO 8601 local date and time, `2026-12-24T00:00`, the first moment that is closed. */
  readonly from: string
  /** The first moment that is open again. */
  readonly to: string
}

/** When a full backup is wanted instead of an incremental one. `first`: only where there is none (forever incremental). */
export type FullRule = { readonly cron: readonly string[] } | { readonly everyMs: number } | 'first' | 'always'

/** Which failures are worth another try before the next regular moment. */
export type RetryRule = {
  /** Tries after the first one, for each moment a run was due. */
  readonly attempts: number
  /** From the end of a failed run to the next try, ms; doubled with each further one. */
  readonly delayMs: number
  readonly on: readonly ErrorCode[]
}

/** When a job's VMs are backed up: at moments, and so that the last good point never gets older than a target. */
export type JobSchedule = {
  /** IANA name or offset, for `cron`, `windows` and `blackouts`. */
  readonly timeZone: string
  /** Five fields each, `0 22 * * 1-5`; a full's moments are due moments of their own. */
  readonly cron: readonly string[]
  /** The last good point must not become older, ms; no target when absent. */
  readonly rpoMs: number | undefined
  readonly full: FullRule
  /** A run begins only in one of these; at any time when there is none. */
  readonly windows: readonly Window[]
  readonly blackouts: readonly Blackout[]
  /** A higher one begins first; 0 unless said. */
  readonly priority: number
  readonly retry: RetryRule
}

/** One run of a job on a VM, as far as the next one depends on it. */
export type PastRun = {
  /** ms since 1970, as all moments here. */
  readonly begunAt: number
  readonly endedAt: number
  /** Undefined: it made a good point. */
  readonly error: ErrorCode | undefined
}

/** What is known of a VM of a job when the scheduler looks. */
export type VmRecord = {
  readonly vm: VmRef
  /** Since when the job knows the VM: what was due earlier is nobody's miss. */
  readonly knownSince: number
  /** The snapshot time of its newest good point, whoever made it. */
  readonly lastGoodAt: number | undefined
  /** The same of its newest full one. */
  readonly lastFullAt: number | undefined
  /** The job's last runs on it, newest first; as many as there are tries after a due moment are enough. */
  readonly runs: readonly PastRun[]
  /** How long a run takes, ms, as far as one can tell; an RPO is met when the run has ended. */
  readonly expectMs: number | undefined
}

/** A run that may begin now. */
export type Due = {
  readonly job: string
  readonly vm: VmRef
  readonly mode: BackupMode
  readonly priority: number
  /** The moment it stands for: the newest one where several were missed. */
  readonly dueAt: number
  /** The first one that was missed; `dueAt` when none was. */
  readonly since: number
  /** Which try it is for that moment, 1 for the first. */
  readonly attempt: number
  /** In words, for logs and reports. */
  readonly reason: string
  /** When the RPO is missed unless a good point comes first; undefined without one. May lie in the past. */
  readonly deadline: number | undefined
  /** The last moment to begin so that the run ends before `deadline`, as far as one can tell; undefined without one. */
  readonly beginBy: number | undefined
  /** When the window closes that is open now; undefined where none does. */
  readonly openUntil: number | undefined
}
