import type { ConsistencyLevel, NotProtected, SnapshotRef, VmConfig } from '../core/index.ts'

/** What the first half hands to the second: the frozen disks and how they are to be read. */
export type Frozen = {
  readonly config: VmConfig
  readonly snapshot: SnapshotRef
  readonly level: ConsistencyLevel
  readonly reason: string
  readonly notProtected: readonly NotProtected[]
  /** Beside the disks and the configuration: what the guest scripts said. */
  readonly files: readonly { readonly name: string; readonly body: Uint8Array }[]
}
