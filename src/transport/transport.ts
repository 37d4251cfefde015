import type {
  Abortable,
  BlockSink,
  BlockSource,
  DiskRef,
  Range,
  SnapshotRef,
  TransportClaims,
  TransportName,
  Verdict,
  VmConfig,
} from '../core/index.ts'
import type { Waiting } from './buckets.ts'

/** A disk of a snapshot, with the configuration as of that snapshot. */
export type SnapshotDisk = {
  readonly snapshot: SnapshotRef
  readonly config: VmConfig
  readonly disk: DiskRef
  /** What of it is to be read: all that is allocated when absent, or here and there what has changed, which a stream of the whole disk is no way to. */
  readonly wanted?: 'allocated' | 'changed' | undefined
}

/** One block of a frozen disk: all zeros by its map, or the SHA-256 of its bytes (32 bytes), or left undecided, so that it has to be read. */
export type BlockDigest = Range &
  ({ readonly kind: 'zero' } | { readonly kind: 'digest'; readonly sha256: Uint8Array } | { readonly kind: 'undecided' })

/** A frozen disk, open. */
export type OpenDisk = BlockSource & {
  /**
   * Digests of the blocks of `range`, which begins and ends at multiples of `blockSize` counted from the beginning of the disk, or at its end: one
   * for each, in order, computed where the disk is, so that its bytes do not travel. Absent where nothing is there to compute them.
   * Errors: UNAVAILABLE, INTEGRITY.
   */
  readonly digests?: ((range: Range, blockSize: number, options?: Abortable) => AsyncIterable<BlockDigest>) | undefined
  /**
   * Of a source that learns only at its end whether it was right: reads that end, and resolves when what was read is proven. Called once, after the
   * last read and before the bytes count. Errors: INTEGRITY, UNAVAILABLE.
   */
  readonly finish?: ((options?: Abortable) => Promise<void>) | undefined
}

/** A disk of a VM as it is now, with no snapshot taken: for a look ahead. */
export type PresentDisk = { readonly config: VmConfig; readonly disk: DiskRef }

/**
 * A disk to be restored into: of a VM that is off and has no snapshot, made for it and empty (every byte reads as zero). One that is opened again after a
 * failure holds a part of what was written; whoever opens it writes the same bytes at the same places again, and nothing else.
 */
export type TargetDisk = { readonly config: VmConfig; readonly disk: DiskRef }

/** `claims`: how what outlives the process is held; a transport that holds such things and gets none refuses to open. `onWait`: told of a wait for a limit. */
export type OpenOptions = Abortable & Waiting & { readonly claims?: TransportClaims | undefined }

/** One way of reading a snapshot's disk. Made per run by the composition root; holds nothing between calls. */
export interface Transport {
  readonly name: TransportName
  /**
   * Whether disks of this kind can ever be read this way, from what vSphere says of the disk alone: a raw device has no file. A disk that no
   * transport handles is named as not protected; one that a transport handles but cannot reach fails the backup.
   */
  handles(disk: DiskRef): Verdict
  /** Whether this disk can be read this way now, and why not. Cheap: no bulk data. Never throws for a refusal. */
  probe(disk: SnapshotDisk, options?: Abortable & Waiting): Promise<Verdict>
  /**
   * The same as far as can be seen before the snapshot, for `--dry-run`: takes nothing, changes nothing, and does not fail for a file that is locked only
   * while the VM writes to it. Absent where nothing can be said before. Never throws for a refusal.
   */
  foresee?(disk: PresentDisk, options?: Abortable): Promise<Verdict>
  /** The frozen disk, complete: the snapshot's own link and every parent below it. The caller disposes it. */
  open(disk: SnapshotDisk, options?: OpenOptions): Promise<OpenDisk>
  /** It reads whole disks and refuses where only changed areas are wanted. */
  readonly wholeDisks?: boolean | undefined
  /** Its reads are those of files or devices of this machine: to read a little more costs less than to look elsewhere. */
  readonly local?: boolean | undefined
  /** Absent where a restore cannot go this way. */
  readonly writing?: DiskWriting | undefined
}

/** The same way used by a restore. */
export interface DiskWriting {
  /** Whether this disk can be written this way now, and why not. Cheap. Never throws for a refusal. */
  probe(target: TargetDisk, options?: Abortable): Promise<Verdict>
  /**
   * The empty disk, for writes of any size in any order; what is never written stays zero and unallocated. `flush` makes everything durable on the
   * datastore, and nothing is written after it. The caller disposes it. Errors: CONFLICT (the VM is on or has a snapshot, the disk is in use),
   * CAPACITY (the datastore is full), INTEGRITY (not the disk vSphere describes), UNAVAILABLE.
   */
  open(target: TargetDisk, options?: OpenOptions): Promise<BlockSink>
}
