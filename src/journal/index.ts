/**
 * Rank 2. What the agent holds right now, durable, and the one way of giving it back.
 *
 * A held thing (VM lock, snapshot, upload, registered VM) is taken through `Claims.take`: intent row → effect carrying the claim id →
 * confirmation. It is released by the kind's entry in the one registry of `Releasers`, whoever asks: the end of the job, its failure, a
 * cancel, or recovery after a crash. Releases run in reverse order; a claim is kept while one that depends on it could not be released;
 * one failing release does not stop the next.
 *
 * A flow wraps itself in `runJob`; start reading there, then `claims.ts`, `release-claims.ts`, `recover-jobs.ts`.
 */
export type { ClaimArgs, ClaimKind, ClaimKinds, ClaimRef, MountDirectory } from './claim-kinds.ts'
export { CancelWatch, type CancelWatchOptions, type JobSignals } from './cancel-watch.ts'
export { claimInWords, jobSubject, optional } from './claim-words.ts'
export { type Claims, createClaims, type Held, LeftError, resumeClaims } from './claims.ts'
export type {
  CancelRequest,
  CancelRequests,
  ClaimHistory,
  FinishedJob,
  JobJournal,
  JobList,
  JobOutcome,
  JobOwnership,
  JobWaits,
  Journal,
  JournaledClaim,
  JournaledJob,
  PruneLimits,
} from './journal.ts'
export { MemoryJournal, MemoryJournalRows } from './memory-journal.ts'
export { PgJournal, type PgJournalOptions } from './pg-journal.ts'
export { PgVmLocks } from './pg-vm-locks.ts'
export { createProxyProcesses } from './proxy-processes.ts'
export { type ProcessIdentity, type Processes, type ProcessLookup, sameProcess, systemProcesses } from './process.ts'
export { keptOf, recoverJobs, type RecoveredJob, type RecoverOptions, type RecoveryReport } from './recover-jobs.ts'
export { claimReport, type ClaimReport, type ReleaseLimit } from './release-claims.ts'
export type { ReleasableClaim, Releaser, Releasers } from './releasers.ts'
export { type JobWork, runJob, type RunJobOptions } from './run-job.ts'
export { openSqliteJournal, type SqliteJournalOptions } from './sqlite-journal.ts'
export { SqliteVmLocks, vmKey, type VmLocks, vmLockReleaser } from './vm-locks.ts'
