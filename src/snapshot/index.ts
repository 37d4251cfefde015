/**
 * Rank 2. The agent's own snapshots: create with the claim id in the name, find by claim, read the configuration they froze, ask what
 * changed, remove and consolidate. A snapshot that is not ours is never touched.
 */
import type { Abortable, ClaimId, DiskFacts, DiskRef, Range, SnapshotRef, VmConfig, VmRef } from '../core/index.ts'
import type { GuestQuiesce, Vsphere } from '../vsphere/index.ts'

export type SnapshotRequest = {
  readonly claim: ClaimId
  readonly quiesce?: GuestQuiesce | undefined
  readonly description?: string | undefined
}
export type Removal = {
  /** False when it was gone already. */
  readonly removed: boolean
  /** Whether leftover redo logs had to be consolidated. */
  readonly consolidated: boolean
}
export interface Snapshots {
  /** Disk-only snapshot named `vcb-proxy CLAIM`. Not idempotent: after a doubt look with `find`. CONFLICT, CAPACITY, GUEST, UNAVAILABLE. */
  create(vm: VmRef, request: SnapshotRequest, options?: Abortable): Promise<SnapshotRef>
  /** The snapshot of this claim, after tasks still running on the VM have ended; undefined when there is none (or no such VM). */
  find(vm: VmRef, claim: ClaimId, options?: Abortable): Promise<SnapshotRef | undefined>
  /** `base` with hardware, disks, chains and changeIds as the snapshot froze them. */
  configOf(snapshot: SnapshotRef, base: VmConfig, options?: Abortable): Promise<VmConfig>
  /** Changed since `changeId`: ordered, merged, clipped byte ranges. INTEGRITY when the answers do not add up: read the disk in full. */
  changed(snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable): AsyncIterable<Range>
  /** In use (`"*"`): as `changed`. NOT_FOUND-free: any fault means that the map is not available, so read everything. */
  allocated(snapshot: SnapshotRef, disk: DiskRef, options?: Abortable): AsyncIterable<Range>
  /** Idempotent: gone = success. Then consolidates when the VM asks for it, with back-off on locks. */
  remove(snapshot: SnapshotRef, options?: Abortable): Promise<Removal>
}
export declare function createSnapshots(vsphere: Vsphere): Snapshots

export type TrackingState = { readonly active: boolean; readonly reason: string }
/**
 * Switches change tracking on where it is supported, allowed, and the VM has no snapshot. It takes hold at the next stun, which `cycle`
 * must bring about: take a snapshot under a claim and remove it. Never throws for a refusal; the reason says why tracking is not on.
 */
export declare function ensureChangeTracking(
  vsphere: Vsphere,
  config: VmConfig,
  how: Abortable & { readonly allowed: boolean; readonly cycle: () => Promise<void> },
): Promise<TrackingState>

export type ChangeBase =
  | { readonly use: true; readonly changeId: string; readonly reason: string }
  | { readonly use: false; readonly reason: string }
/** Whether the changeId stored with the last point may be the base of an incremental of `current` (from the new snapshot's config). Pure. */
export declare function changeBase(previous: DiskFacts | undefined, current: DiskRef): ChangeBase
