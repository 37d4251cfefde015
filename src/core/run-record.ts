import type { ErrorCode } from './errors.ts'
import type { PointId, RunId } from './ids.ts'
import type { BackupMode, VmRef } from './model.ts'

/** What one run of one VM came to. Moments are ISO 8601 in UTC. Kept in the history, told to whoever follows the runs of the agent. */
export type RunRecord = {
  readonly run: RunId
  /** Undefined of a run that no job asked for. */
  readonly job: string | undefined
  readonly vm: VmRef
  /** Undefined when it ended before that was decided. */
  readonly mode: BackupMode | undefined
  /** The moment it was meant for; undefined when somebody asked for it. */
  readonly dueAt: string | undefined
  readonly begunAt: string
  readonly endedAt: string
  readonly result: 'succeeded' | 'failed' | 'canceled'
  /** A program before a stage wanted the VM left alone this time: its reason. The result is `canceled` then. */
  readonly skipped?: string | undefined
  readonly error: { readonly code: ErrorCode; readonly message: string; readonly next: string | undefined } | undefined
  readonly point: PointId | undefined
  readonly repository: string
  readonly consistency: string | undefined
  /** Bytes of all its disks, those read, and those that the repository grew by. */
  readonly totalBytes: number
  readonly readBytes: number
  readonly storedBytes: number
  readonly snapshotLifetimeMs: number | undefined
  readonly frozenMs: number | undefined
  readonly notProtected: readonly { readonly what: string; readonly reason: string }[]
  readonly warnings: readonly string[]
}
