import { type Clock, type JobId, type Log } from '../core/index.ts'
import { type Journal, type Processes, recoverJobs, type RecoveryReport, type Releasers } from '../journal/index.ts'

export type RecoverDeps = {
  readonly journal: Journal
  readonly releasers: Releasers
  readonly processes: Processes
  readonly clock: Clock
  readonly log: Log
}

/**
 * Releases what jobs of dead processes hold, through the same releasers as every other end of a job. Called by `vcb recover` and before each
 * backup or restore starts. Idempotent; what cannot be released yet stays listed with the reason.
 */
export function recover(deps: RecoverDeps, job?: JobId): Promise<RecoveryReport> {
  const { processes, ...rest } = deps
  return recoverJobs({ ...rest, isAlive: (owner) => processes.isAlive(owner), job })
}
