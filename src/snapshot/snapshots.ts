import type { Abortable, ClaimId, DiskRef, Range, SnapshotRef, VmConfig, VmRef } from '../core/index.ts'
import type { GuestQuiesce } from '../vsphere/index.ts'

export type SnapshotRequest = {
  readonly claim: ClaimId
  /** Asks the guest to freeze while the snapshot is made. */
  readonly quiesce?: GuestQuiesce | undefined
  readonly description?: string | undefined
}

export type Removal = {
  /** False when it was gone already. */
  readonly removed: boolean
  /** Whether left-over redo logs had to be consolidated. */
  readonly consolidated: boolean
}

/** The agent's own snapshots at one vCenter or ESXi. */
export interface Snapshots {
  /**
   * Disk-only snapshot named `vcb-proxy CLAIM`; waits for other tasks on the VM first. Not idempotent: after a doubt look with `find`.
   * GUEST (the guest was not quiesced), CONFLICT, CAPACITY, UNAVAILABLE.
   */
  create(vm: VmRef, request: SnapshotRequest, options?: Abortable): Promise<SnapshotRef>
  /**
   * The snapshot of this claim, after tasks still running on the VM have ended; undefined when there is none, or no such VM any more. A VM
   * that was registered again is found by its instance uuid.
   */
  find(vm: VmRef, claim: ClaimId, options?: Abortable): Promise<SnapshotRef | undefined>
  /** `base` with hardware, disks, chains and changeIds as the snapshot froze them. NOT_FOUND. */
  configOf(snapshot: SnapshotRef, base: VmConfig, options?: Abortable): Promise<VmConfig>
  /** Changed from `changeId` up to the snapshot: ordered, merged byte ranges. INTEGRITY: use nothing of it and read the disk in full. */
  changed(snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable): AsyncIterable<Range>
  /** In use at the snapshot (`*`): as `changed`. Any error means that there is no map: read everything. */
  allocated(snapshot: SnapshotRef, disk: DiskRef, options?: Abortable): AsyncIterable<Range>
  /**
   * Idempotent: gone = success. Its children and all other snapshots stay. Then consolidates when the VM asks for it, with back-off on locks.
   * CONFLICT when the redo logs stay locked for an hour: call it again later.
   */
  remove(snapshot: SnapshotRef, options?: Abortable): Promise<Removal>
}
