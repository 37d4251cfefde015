import type { Abortable, ClaimId, DiskRef, Range, SnapshotRef, VmBefore, VmConfig, VmRef } from '../core/index.ts'
import type { GuestQuiesce } from '../vsphere/index.ts'

export type SnapshotRequest = {
  readonly claim: ClaimId
  /** Asks the guest to freeze while the snapshot is made. */
  readonly quiesce?: GuestQuiesce | undefined
  readonly description?: string | undefined
  /** Wraps the call each time it is made, from its sending to the end of its task: the freeze watchdog. */
  readonly within?: (<T>(call: (options: Abortable) => Promise<T>) => Promise<T>) | undefined
}

export type Removal = {
  /** False when it was gone already. */
  readonly removed: boolean
  /** Whether left-over redo logs had to be consolidated. */
  readonly consolidated: boolean
}

export type FindOptions = Abortable & {
  readonly before?: VmBefore | undefined
  /** When the snapshot was about to be made, by a process that may have died in the middle: one just asked for may still be on its way. */
  readonly intendedAt?: Date | undefined
}

export type RemoveOptions = Abortable & {
  /** How the VM was before the snapshot; unknown for claims of an older vcb. */
  readonly before?: VmBefore | undefined
}

/** The agent's own snapshots at one vCenter or ESXi. */
export interface Snapshots {
  /**
   * Disk-only snapshot named `vcb-proxy CLAIM`; waits for other tasks on the VM first. Not idempotent: after a doubt look with `find`.
   * GUEST (the guest was not quiesced), CONFLICT, CAPACITY, UNAVAILABLE.
   */
  create(vm: VmRef, request: SnapshotRequest, options?: Abortable): Promise<SnapshotRef>
  /**
   * The snapshot of this claim, after tasks still running on the VM have ended; undefined when there is none, or the VM is provably gone. A VM
   * that was registered again is found by its instance uuid. CONFLICT: a task does not end, or the VM is not registered but its files are there;
   * UNAVAILABLE: its host is disconnected.
   */
  find(vm: VmRef, claim: ClaimId, options?: FindOptions): Promise<SnapshotRef | undefined>
  /** `base` with hardware, disks, chains and changeIds as the snapshot froze them. NOT_FOUND. */
  configOf(snapshot: SnapshotRef, base: VmConfig, options?: Abortable): Promise<VmConfig>
  /** Changed from `changeId` up to the snapshot: ordered, merged byte ranges. INTEGRITY: use nothing of it and read the disk in full. */
  changed(snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable): AsyncIterable<Range>
  /** In use at the snapshot (`*`): as `changed`. Any error means that there is no map: read everything. */
  allocated(snapshot: SnapshotRef, disk: DiskRef, options?: Abortable): AsyncIterable<Range>
  /**
   * One try, to be made again after an error that `passesByItself`; gone = success. The VM is found whatever its name, folder, host or reference
   * is now. Waits for tasks on it, removes our snapshot alone, then consolidates what is left of it; redo logs that were there `before` stay.
   * CONFLICT (busy, file locked, not registered), UNAVAILABLE, CAPACITY (no space to commit). An abort leaves the server's task to run.
   */
  remove(snapshot: SnapshotRef, options?: RemoveOptions): Promise<Removal>
}
