import { type Abortable, type Log, type RunRecord, toAgentError } from '../core/index.ts'
import type { JobConfig } from './config/jobs.ts'

/** A run of one VM that is over: its record is in the history, and its VM is unlocked. `job`: undefined of a run that no job asked for. */
export type RunEnded = { readonly record: RunRecord; readonly job: JobConfig | undefined }

/**
 * Follows the ended runs of an agent: retention, copies, notices, metrics. Called once for each, in the order the runs ended, never twice at a time; what one
 * does long delays no other. One that throws stops nobody: the log tells it.
 */
export interface AfterRun {
  readonly name: string
  after(ended: RunEnded, options: Abortable): Promise<void>
  /** Called once, when no run comes any more; resolves when what it does on its own has ended. Never fails. */
  settled?(): Promise<void>
}

/** Never fails. */
export async function tellRunEnded(follower: AfterRun, ended: RunEnded, log: Log, options: Abortable = {}): Promise<void> {
  try {
    await follower.after(ended, options)
  } catch (error) {
    const { run, vm } = ended.record
    log.error('what follows a run failed', { follower: follower.name, run, vm: vm.name, error: toAgentError(error).message })
  }
}
