import type { AgentError } from './errors.ts'
import type { PointId, RunId } from './ids.ts'
import type { BackupMode, DiskRef, SnapshotRef, VmRef } from './model.ts'

/** Moments of one VM's run at which programs of the proxy may be run, in their order. */
export const STAGES = ['preRun', 'preSnapshot', 'postSnapshot', 'postStore', 'postRun'] as const
export type Stage = (typeof STAGES)[number]

/** What is known of a run at a stage: plain data, no secret. What programs are told, and what the journal keeps for those that are still to come. */
export type StageFacts = {
  readonly job: string
  readonly run: RunId
  readonly vm: VmRef
  readonly dueAt: string | undefined
  /** Undefined until it is decided, where nobody asked for one. */
  readonly mode: BackupMode | undefined
  readonly repository: string
  readonly disks: readonly Pick<DiskRef, 'key' | 'label' | 'uuid' | 'capacityBytes' | 'fileName'>[]
  readonly snapshot?: Pick<SnapshotRef, 'moref' | 'name'> | undefined
  readonly point?: PointId | undefined
  readonly result?: 'succeeded' | 'failed' | 'canceled' | 'skipped' | undefined
  readonly error?: Pick<AgentError, 'code' | 'message' | 'next'> | undefined
}

/** Programs that a stage is over for, and that come whatever happens: those of `stage`. What the journal keeps of them before their counterparts begin. */
export type StagesToCome = {
  readonly stage: 'postSnapshot' | 'postRun'
  readonly facts: StageFacts
  /** The longest time limit among both, ms. */
  readonly limitMs: number
}
