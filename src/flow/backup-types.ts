import type {
  BackupMode,
  Clock,
  ConsistencyLevel,
  DiskFacts,
  Log,
  Marks,
  NotProtected,
  PointId,
  QuiescePolicy,
  RunId,
  VmRef,
  WindowsQuiesce,
} from '../core/index.ts'
import type { VmLocks } from '../journal/index.ts'
import type { GuestScripts } from '../quiesce/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import type { Snapshots, SpaceWatch } from '../snapshot/index.ts'
import type { JobLimits, ReopenPolicy, Transport } from '../transport/index.ts'
import type { StagePrograms } from '../stages/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { StagesRequest } from './stages.ts'

/** Everything the flow uses; made by the composition root. */
export type BackupDeps = {
  readonly vsphere: Vsphere
  readonly snapshots: Snapshots
  /** In the order they are tried. */
  readonly transports: readonly Transport[]
  /** How often a transport that broke in mid-read is opened again. */
  readonly reopen: ReopenPolicy
  /** What this VM's job takes of the agent's limits; its owner disposes it when the snapshot is gone. */
  readonly limits: JobLimits
  readonly provider: BackupProvider
  readonly locks: VmLocks
  /** Scripts in guests; absent where there are none. */
  readonly scripts?: GuestScripts | undefined
  /** Programs of the proxy around the run. */
  readonly stages: StagePrograms
  /** Of this VM; the caller's signal is joined with its own. */
  readonly space: SpaceWatch
  readonly marks: Marks
  readonly clock: Clock
  readonly log: Log
}

export type BackupRequest = {
  readonly vm: VmRef
  readonly run: RunId
  /** `auto` and `incremental` build on the last complete point where that is safe; `full` never does. */
  readonly mode: 'auto' | BackupMode
  readonly quiesce: QuiescePolicy
  /** The guest is frozen for so long at most, ms. */
  readonly freezeLimitMs: number
  /** What VSS of a Windows guest is told; the server's own choice when absent. */
  readonly windowsQuiesce?: WindowsQuiesce | undefined
  /** Guest scripts: false = none, `require` or `try` instead of their own policy. */
  readonly guestScripts?: boolean | 'require' | 'try' | undefined
  /** Of the job it is a run of; none when absent. */
  readonly stages?: StagesRequest | undefined
  /** Whether change tracking may be switched on. */
  readonly changeTracking: boolean
  readonly excludeDisks: readonly string[]
  /** Disks read at the same time, where the destination takes several; 1 when absent. */
  readonly parallelDisks?: number | undefined
}

/** `compare`: how far digests of the disk's blocks were compared with the last point; then what differs is read. */
export type BackupProgress = {
  readonly vm: string
  readonly disk: string
  readonly step: 'compare' | 'read'
  readonly doneBytes: number
  readonly totalBytes: number
}

/** What became of one VM; printed by `vcb backup --json`. */
export type BackupResult = {
  readonly vm: VmRef
  readonly point: PointId
  readonly time: string
  readonly mode: BackupMode
  readonly consistency: ConsistencyLevel
  readonly consistencyReason: string
  /** How long the guest was frozen at most: the time the quiesced snapshot took, ms. Absent when the guest was not asked. */
  readonly frozenMs?: number | undefined
  /** From the snapshot's creation to its removal, redo logs committed; to the vain attempt when it is still there. */
  readonly snapshotLifetimeMs: number
  readonly disks: readonly DiskFacts[]
  readonly notProtected: readonly NotProtected[]
  readonly warnings: readonly string[]
}
