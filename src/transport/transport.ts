import type { Abortable, BlockSource, DiskRef, SnapshotRef, TransportName, Verdict, VmConfig } from '../core/index.ts'

/** A disk of a snapshot, with the configuration as of that snapshot. */
export type SnapshotDisk = { readonly snapshot: SnapshotRef; readonly config: VmConfig; readonly disk: DiskRef }

/** One way of reading a snapshot's disk. Made per run by the composition root; holds nothing between calls. */
export interface Transport {
  readonly name: TransportName
  /**
   * Whether disks of this kind can ever be read this way, from what vSphere says of the disk alone: a raw device has no file. A disk that no
   * transport handles is named as not protected; one that a transport handles but cannot reach fails the backup.
   */
  handles(disk: DiskRef): Verdict
  /** Whether this disk can be read this way now, and why not. Cheap: no bulk data. Never throws for a refusal. */
  probe(disk: SnapshotDisk, options?: Abortable): Promise<Verdict>
  /** The frozen disk, complete: the snapshot's own link and every parent below it. The caller disposes it. */
  open(disk: SnapshotDisk, options?: Abortable): Promise<BlockSource>
}
