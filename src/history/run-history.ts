import type { RunRecord } from '../core/index.ts'

export type RunQuery = {
  /** The name of a job. */
  readonly job?: string | undefined
  /** A VM by name, inventory path, instanceUuid or moref, as it was when it ran. */
  readonly vm?: string | undefined
  /** A VM for certain, whatever its name is now. */
  readonly vmId?: { readonly vcenterUuid: string; readonly instanceUuid: string } | undefined
  readonly result?: RunRecord['result'] | undefined
  /** Runs that ended at this moment or later. */
  readonly since?: Date | undefined
  /** Runs that ended before this moment. */
  readonly until?: Date | undefined
  /** At most so many; 1000 when absent. */
  readonly limit?: number | undefined
}

/**
 * How each run of each VM ended, whoever asked for it. Every call is atomic by itself and durable when it resolves. Errors: CAPACITY (state disk full), INTEGRITY
 * (state damaged).
 */
export interface RunHistory {
  /** Once per ended run of a VM. Idempotent by run and VM: the first record counts. */
  add(record: RunRecord): Promise<void>
  /** The last one ended first. */
  find(query: RunQuery): Promise<readonly RunRecord[]>
  /** Forgets runs that ended before, but never the last `atLeast` of all; how many. */
  prune(before: Date, atLeast: number): Promise<number>
}
