import type {
  Abortable,
  BackupMode,
  BlockSource,
  ConsistencyLevel,
  DiskFacts,
  DiskRef,
  Manifest,
  NotProtected,
  PointId,
  PointSummary,
  Range,
  RunId,
  Verdict,
  VmConfig,
} from '../core/index.ts'
import type {
  KeyFacts,
  KeyStore,
  ListedKey,
  PruneOptions,
  PruneReport,
  RenewOptions,
  RenewReport,
  RepositorySize,
} from '../restic/index.ts'

export type { KeyFacts, KeyStore, ListedKey, RepositorySize }

/** A repository that is being made: the key file is the first of its files. */
export type NewRepository = { readonly url: string; readonly key: string }

/** A key being added to a repository, and the local file that its password is written to first, with the SHA-256 of that file in hex. */
export type NewKey = {
  readonly url: string
  readonly key: string
  readonly password?: { readonly path: string; readonly sha256: string } | undefined
}

/** Lock files in a repository: what removes them when their process is gone, without the repository's password. */
export type RepositoryLocks = { readonly url: string; readonly names: readonly string[] }

/**
 * For calls that lock the repository. `recordLocks` is told all lock files of the call, before another one is made and after one was removed (no
 * names: none is left), and keeps them durably; without it a lock that outlives its process stays until it is stale.
 */
export type Locking = Abortable & { readonly recordLocks?: ((locks: RepositoryLocks) => Promise<void>) | undefined }

/**
 * Where restore points go. One provider object serves one repository, archive or directory.
 * Adapters: the restic repository (default), tar, directory export.
 */
export interface BackupProvider extends AsyncDisposable {
  readonly name: string
  /** The `--repo` value it was opened from, without secrets. */
  readonly url: string
  /**
   * Whether it takes incrementals. Where not, ask for full plans and record the reason as each disk's `modeReason`; a writer that is given an
   * incremental plan all the same stores the whole disk.
   */
  readonly incremental: Verdict
  /** Whether its writers tell the digests of a parent's blocks, and why not. */
  readonly digests: Verdict
  /** Why only one point can be written at a time; undefined where several can. */
  readonly oneAtATime?: string | undefined
  /** The program behind it and its version, for people. */
  readonly about?: string | undefined
  /** Several disks of a point may be put at the same time, and gain by it; absent where they are stored one after the other. */
  readonly parallelDisks?: boolean | undefined
  /** Its points are exports that other programs open as they lie there, so their VMX is to name the files beside it (`exportNames`). */
  readonly exports?: boolean | undefined
  /**
   * Starts a restore point of one VM. Takes what locks the repository needs for the life of the writer.
   * Errors: CONFLICT (locked), CAPACITY, AUTH, UNAVAILABLE.
   */
  begin(request: PointRequest, options?: Locking): Promise<BackupWriter>
  /** CONFLICT while somebody holds the destination alone. For who has much to prepare before `begin`, which decides; absent where nobody can. */
  refuseIfHeld?(options?: Abortable): Promise<void>
  /** Points that can be listed and read back; undefined for a destination that only takes a stream (a tape, standard output). */
  readonly points: PointStore | undefined
  /** What else opens it; absent where passwords are not its own affair. */
  readonly keys?: KeyStore<Locking> | undefined
}

export type PointRequest = {
  readonly config: VmConfig
  readonly run: RunId
  /** ISO 8601, when the snapshot was taken. */
  readonly time: string
  /** The point an incremental builds on; its disks are reused where nothing changed. */
  readonly parent?: PointId | undefined
}

export type PointList = Abortable & {
  /** Only a VM's points are wanted, and of those only the newest `most`: asked for by each backup, in a repository of hundreds of VMs. */
  readonly newestOf?: { readonly instanceUuid: string; readonly vcenterUuid: string; readonly most: number } | undefined
}

/** Reads restore points back. */
export interface PointStore {
  /** Why disks of its points are only fit to be read from beginning to end; undefined where they can be read anywhere. */
  readonly onlyForwards?: string | undefined
  /** Complete points only, in no promised order. With `newestOf` a store that can tell without opening them may leave out what is not asked for. */
  list(options?: PointList): AsyncIterable<PointSummary>
  /** A point by its id or an unambiguous beginning of at least 6 characters; `latest` is not known here. NOT_FOUND, USAGE (ambiguous). */
  open(id: string, options?: Abortable): Promise<BackupReader>
  /**
   * Keeps everybody from removing points and their data until it is disposed; asked for around `open` where a reader may live long. `signal` aborts
   * with CONFLICT when the lock is lost. A repository that cannot be written to is read without. CONFLICT.
   */
  hold(options?: Locking): Promise<PointsHold>
  /** Problems of one point, or of the whole repository; none yielded = everything was read and is sound. */
  check(id: PointId | undefined, options?: PointsCheck): AsyncIterable<Problem>
  /** Removes a point from the list; its data goes at the next prune. */
  delete(id: PointId, options?: Locking): Promise<void>
  /** Takes what removing several points needs, held until disposed: a restic repository's exclusive lock. CONFLICT while anybody uses it. */
  beginDelete(options?: Locking): Promise<PointDeletion>
  /**
   * Frees the space of removed points, or says what that would come to; absent where it goes with them. A kill at any moment loses nothing. CONFLICT while anybody uses the
   * destination; CONFIG when it lets nothing be removed; INTEGRITY, with nothing removed, when something that points need is missing.
   */
  prune?(request: PruneRequest, options?: Locking): Promise<PruneReport>
  /**
   * Has the destination keep what its points need as long as them, by Object Lock; absent where it keeps nothing so. Only ever longer, and a call that was cut is gone on with by the next. CONFLICT while somebody has the
   * destination alone; CONFIG when the login may not.
   */
  readonly renewLocks?: ((request: RenewRequest, options?: Locking) => Promise<RenewReport>) | undefined
  /** Until when the destination keeps a point, whoever asks; undefined = it may be removed. Absent where nothing is kept so. */
  lockedUntil?(id: PointId, options?: Abortable): Promise<Date | undefined>
}

export type RenewRequest = Pick<RenewOptions, 'dryRun' | 'onProgress'>

export type PruneRequest = Pick<PruneOptions, 'dryRun' | 'mostUnused' | 'mostRepackedBytes' | 'onProgress'>

/** Points being removed, one by one. A crash at any moment leaves each either listed or gone. */
export interface PointDeletion extends AsyncDisposable {
  /** Aborts with CONFLICT when the lock is lost; undefined where there is none. */
  readonly signal: AbortSignal | undefined
  /** As `PointStore.delete`, without taking the lock again. NOT_FOUND, CONFLICT, CONFIG (the destination refuses removals). */
  delete(id: PointId, options?: Abortable): Promise<void>
}

export interface PointsHold extends AsyncDisposable {
  readonly signal?: AbortSignal | undefined
}

/** Of destinations whose points nobody removes behind their readers: each holds its files open. */
export const noHold: PointsHold = Object.freeze({ [Symbol.asyncDispose]: async () => undefined })

/** `slice`: found by reading the data of that part. */
export type Problem = { readonly point?: PointId | undefined; readonly what: string; readonly slice?: number | undefined }

export type PointsCheck = Locking & {
  readonly readData?: boolean | undefined
  /**
   * Only the data of these parts (0 to SLICES - 1) are read, part after part: packs or points, which fall into them by their names. Not for one point. All when
   * absent.
   */
  readonly slices?: readonly number[] | undefined
  /** Told of each of `slices` when its data have been read, whatever was found in them. The next one begins when it resolves. */
  readonly onSlice?: ((slice: number) => Promise<void>) | undefined
  /** False: nothing but the data is looked at. */
  readonly structure?: boolean | undefined
  /** Told what the destination takes, where it can be told. Not for one point. */
  readonly onSize?: ((size: RepositorySize) => void) | undefined
}

/** What to transfer of one disk. */
export type DiskPlan = {
  readonly mode: BackupMode
  /**
   * Ordered, non-overlapping byte ranges inside the disk. Full: everything outside them is zero. Incremental: everything outside them
   * is as in the parent point.
   */
  readonly ranges: AsyncIterable<Range>
  /**
   * Incremental: the source may be asked for what lies around the ranges too, where a provider keeps whole blocks and would have to open those of the parent point; never for more in
   * all than half of the ranges. For a source that this machine reads by itself, next to which the repository is the slower one.
   */
  readonly readAround?: boolean | undefined
}

export type DiskProgress = {
  /** Bytes of the disk decided so far, read or not; ends at the sum of the plan's ranges. */
  readonly doneBytes: number
  readonly readBytes: number
  readonly storedBytes: number
}

/** What became of one disk. */
export type DiskWritten = {
  /** Bytes in the plan's ranges. */
  readonly changedBytes: number
  /** Bytes really read from the source. */
  readonly readBytes: number
  /** Bytes added to the destination for this disk. */
  readonly storedBytes: number
}

/** What the parent point holds of a disk, told by digests. */
export interface ParentDigests {
  /** Bytes of a block, from byte 0 of the disk on; the disk's last block may be shorter. */
  readonly blockSize: number
  /**
   * SHA-256 of `count` blocks of the parent's image from number `first` on, 32 bytes each, back to back. Each names data that the destination holds.
   * Asked for in ascending order; a thousand at a time at most. INTEGRITY.
   */
  of(first: number, count: number, options?: Abortable): Promise<Uint8Array>
}

/**
 * One restore point being written. Disposed before `commit` = aborted: nothing of it is ever listed.
 * Disks may be put concurrently; files and disks before `commit`.
 */
export interface BackupWriter extends AsyncDisposable {
  /** Stores a small file (configuration, NVRAM, logs) whole; `name` is one safe file name component. */
  putFile(name: string, body: Uint8Array, options?: Abortable): Promise<void>
  /**
   * Stores one disk. Reads each byte of the plan's ranges at most once from `source`, skips what the source's extents call zero.
   * Errors of the source pass through; CAPACITY when the destination is full; INTEGRITY when the parent's disk cannot be reused.
   */
  putDisk(
    disk: DiskRef,
    source: BlockSource,
    plan: DiskPlan,
    options?: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined },
  ): Promise<DiskWritten>
  /**
   * Digests of the disk as the request's parent holds it, for an incremental of what differs; absent where the provider's `digests` says no.
   * INTEGRITY when the parent does not hold this disk in its present size and blocks, or not all of it is there any more.
   */
  parentDigests?(disk: DiskRef, options?: Abortable): Promise<ParentDigests>
  /** Makes the point exist, atomically; called once, last. Returns the point's id and the manifest as stored. */
  commit(facts: PointFacts, options?: Abortable): Promise<{ readonly id: PointId; readonly manifest: Manifest }>
}

/** What the flow knows at the end and the writer does not; the writer makes the manifest from it. */
export type PointFacts = {
  readonly mode: BackupMode
  readonly consistency: ConsistencyLevel
  readonly consistencyReason: string
  readonly disks: readonly DiskFacts[]
  readonly notProtected: readonly NotProtected[]
}

/** One restore point open for reading. */
export interface BackupReader extends AsyncDisposable {
  readonly id: PointId
  readonly manifest: Manifest
  /** A small file of the point. NOT_FOUND. */
  file(name: string, options?: Abortable): Promise<Uint8Array>
  /** Random access to one disk's complete image, every block verified as it is read. The caller disposes it. NOT_FOUND, INTEGRITY. */
  disk(key: number, options?: Abortable): Promise<BlockSource>
  /** Digests of one disk's blocks, without reading them; absent where the destination keeps none. INTEGRITY. */
  digests?(key: number, options?: Abortable): Promise<ParentDigests>
}
