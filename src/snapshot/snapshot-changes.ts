import type { VmRef } from '../core/index.ts'
import type { CallOptions, GuestQuiesce, SnapshotNode } from '../vsphere/index.ts'
import type { PresentVm } from './present-vm.ts'

export type SnapshotSpec = {
  readonly name: string
  readonly description: string
  readonly quiesce?: GuestQuiesce | undefined
}

/**
 * Who changes a VM's snapshots. What is there, and which tasks run, is always looked up through the API: it shows whatever was done in another way
 * too. Each call waits for the end of what it started; an abort ends the waiting, and only a creation is canceled where that can be done.
 */
export interface SnapshotChanges {
  /** Disk-only snapshot. Not idempotent: after a doubt look whether it is there. GUEST, CONFLICT, CAPACITY, UNAVAILABLE, CONFIG. */
  create(vm: VmRef, spec: SnapshotSpec, options?: CallOptions): Promise<void>
  /** Removes this one, whose data stays in the chain. NOT_FOUND, CONFLICT, CAPACITY, UNAVAILABLE. */
  remove(vm: PresentVm, snapshot: SnapshotNode, options?: CallOptions): Promise<void>
  /** Merges redo logs that no snapshot needs. Idempotent. CONFLICT, CAPACITY, UNAVAILABLE. */
  consolidate(vm: PresentVm, options?: CallOptions): Promise<void>
}
