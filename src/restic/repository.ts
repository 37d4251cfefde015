import type { Compression } from './compression.ts'
import type { Abortable, BlockSource, Clock, Log, Secret } from '../core/index.ts'
import type { BlockPipeline } from './block-pipeline.ts'
import type { OpenLockEnds } from './lock-ends.ts'
import type { Amount, MostUnused, PruneFigures } from './prune-plan.ts'
import type { Locking } from './repository-lock.ts'
import type { Snapshot, StoredSnapshot } from './snapshot.ts'
import type { TreeNode } from './tree.ts'

/** What a repository needs from the composition root. */
export type RepositoryDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Cryptographically strong random bytes. */
  readonly random: (size: number) => Uint8Array
  /** Written into locks and keys, and compared with other locks. */
  readonly hostname: string
  readonly username: string
  readonly pid: number
}

/** Bytes of the scrypt cost are about 128·N·r. restic writes N = 32768, r = 8 and a p of 1 to 10 by the speed of the machine. */
export type KdfParameters = { readonly N: number; readonly r: number; readonly p: number }

export type RepositoryOptions = Abortable & {
  /** Worker threads that hash, compress and seal; default: one a core, at most 4. They start with the first use. */
  readonly workers?: number | undefined
  /** Start them while a password's key is derived, or as soon as a random one has opened instead: for who is sure to store or read disks. */
  readonly startThreads?: boolean | undefined
  /** Largest block of the pipeline in bytes, default 1 MiB, at most 8 MiB. */
  readonly blockSize?: number | undefined
  /** How blocks are compressed, default `auto`. */
  readonly compression?: Compression | undefined
  /** Target size of a pack in bytes, default 16 MiB, 4 to 128 MiB. */
  readonly packSize?: number | undefined
  /** `zlib` keeps off the faster, experimental `node:ffi` way to the same zstd library. */
  readonly codec?: 'auto' | 'zlib' | undefined
  /** Bytes of decompressed blobs kept for reading, default 4 MiB. */
  readonly cacheBytes?: number | undefined
  /**
   * A local directory for the sorted copies of the indexes of large repositories (docs/formats/index-cache.md); may be missing. Without one, an index is all in
   * memory: about 60 bytes a blob.
   */
  readonly cacheDirectory?: string | undefined
  /** Opens what is remembered of the locks of files, in a directory of the repository's own below that one; each renewal asks for all of them where it is absent. */
  readonly lockEnds?: OpenLockEnds | undefined
  /** For tests: from how many blobs on an index is kept in the cache, and leaves memory. */
  readonly indexSizes?: { readonly cacheBlobs: number; readonly spillBlobs: number } | undefined
}

export type WriteLocking = Locking & {
  /**
   * Begun when the lock is written, while the moment passes after which it counts (200 ms, none in a local directory), and perhaps again. Not waited for, and its failure is nobody's: what is
   * read then may be removed before the lock counts, so that somebody has to look again.
   */
  readonly meanwhile?: (() => Promise<unknown>) | undefined
}

/** A restic repository, version 2, open with its master key. Thrown errors: AUTH, INTEGRITY, NOT_FOUND, CONFLICT, CAPACITY, UNAVAILABLE. */
export interface Repository extends AsyncDisposable {
  /** The id in the repository's configuration, hex. */
  readonly id: string
  readonly url: string
  readonly snapshots: SnapshotStore
  readonly keys: KeyStore
  readonly blobs: BlobReader
  readonly complete: Complete
  /**
   * Takes a non-exclusive lock, brings the index up to date and starts the workers. Several writers may be open at once and share both.
   * CONFLICT when another process holds the repository exclusively.
   */
  beginWrite(options?: WriteLocking): Promise<RepositoryWriter>
  /** CONFLICT when another process holds the repository exclusively now. For who has much to prepare before `beginWrite`, which decides. */
  refuseIfHeld(options?: Abortable): Promise<void>
  /**
   * Takes a non-exclusive lock, so that no prune removes what is being read; held until disposed. For restores, exports and mounts.
   * Reading works without it where the repository may not be written to. CONFLICT.
   */
  beginRead(options?: Locking): Promise<RepositoryLease>
  /** Problems as sentences; none yielded = sound. Holds a non-exclusive lock meanwhile. `readData` also reads and verifies every pack; `snapshot` limits it to one snapshot. */
  check(options?: CheckOptions): AsyncIterable<RepositoryProblem>
  /**
   * Frees the space of what no snapshot needs, under the exclusive lock. A kill at any moment loses nothing. CONFLICT while anybody uses the repository; CONFIG when its place lets
   * nothing be removed; INTEGRITY, with nothing removed, when anything that snapshots need is missing or damaged.
   */
  prune(options?: PruneOptions): Promise<PruneReport>
  /**
   * Has the server keep what kept snapshots need as long as them: each at least as long as a file is kept from when it is saved, counted from when the snapshot was made. No lock is made shorter, and
   * what was cut is gone on with by the next call. Absent where the place keeps nothing so. Holds a non-exclusive lock meanwhile. CONFLICT; CONFIG when the login may not.
   */
  readonly renewLocks?: ((options?: RenewOptions) => Promise<RenewReport>) | undefined
}

export type RenewOptions = Locking & {
  /** Only say what would be done. */
  readonly dryRun?: boolean | undefined
  /** Snapshots that are to be kept; all when absent. */
  readonly wants?: ((snapshot: StoredSnapshot) => boolean) | undefined
  /** Told how many files were asked for and made longer so far. */
  readonly onProgress?: ((asked: number, lengthened: number) => void) | undefined
  /** For tests: how far ahead locks are made longer, ms. */
  readonly aheadMs?: number | undefined
}

/** What was done, or would be. */
export type RenewReport = {
  /** Those looked at: kept, and made so lately that they are still to be protected. */
  readonly snapshots: number
  /** Files whose lock was asked for, and those that were (or would be) made longer. The others were known to be kept long enough. */
  readonly asked: number
  readonly lengthened: number
  /** Snapshots that are, after what was done, not protected as long as they are to be. Moments are ISO 8601. */
  readonly short: readonly ShortSnapshot[]
}

export type ShortSnapshot = {
  readonly snapshot: string
  readonly time: string
  /** Until when it is to be protected; both are empty when the snapshot itself cannot be read. */
  readonly wanted: string
  /** When the first file that it needs may be removed; undefined: something that it needs is missing, or cannot be read. */
  readonly until: string | undefined
  readonly problem?: string | undefined
}

export type PruneOptions = Locking & {
  /** Only say what would be done, with a non-exclusive lock. */
  readonly dryRun?: boolean | undefined
  /** What may stay that nobody needs, default 5 %. */
  readonly mostUnused?: MostUnused | undefined
  /** Bytes of packs written anew at most; no limit by default. */
  readonly mostRepackedBytes?: number | undefined
  /** Told how far it is, in bytes of packs. */
  readonly onProgress?: ((stage: 'repacking' | 'removing', done: number, total: number) => void) | undefined
}

/** What was done, or would be. */
export type PruneReport = Omit<PruneFigures, 'pinned'> & {
  readonly snapshots: number
  /** Packs that the server does not let go yet, and their bytes that nobody needs; `until`: when the first may, where it is known. */
  readonly kept: Amount & { readonly until: string | undefined }
}

/** A lock held for reading. `signal` aborts with CONFLICT when it is lost. */
export interface RepositoryLease extends AsyncDisposable {
  readonly signal: AbortSignal
}

export type CheckOptions = Locking & {
  readonly readData?: boolean | undefined
  readonly snapshot?: string | undefined
  /** Only the packs of these parts (`sliceOf`) are read, part after part. All of them when absent. */
  readonly slices?: readonly number[] | undefined
  /** Told of each of `slices` when all its packs have been read, whatever was found in them. The next one begins when it resolves. */
  readonly onSlice?: ((slice: number) => Promise<void>) | undefined
  /** False: index, snapshots and trees are not looked at, only the packs that are read. */
  readonly structure?: boolean | undefined
  /** Told what the packs take at the end of a whole look at the structure; not when only one snapshot is looked at. */
  readonly onSize?: ((size: RepositorySize) => void) | undefined
}
/** What the packs of a repository take. */
export type RepositorySize = {
  readonly packs: number
  readonly bytes: number
  /** Bytes of blobs that no snapshot needs; undefined when a snapshot is damaged, which may need them. */
  readonly unusedBytes: number | undefined
  /** Bytes of packs that no index names: of a backup that runs, or of one that was cut off. */
  readonly unknownBytes: number
}
/** `slice`: found by reading a pack of that part. */
export type RepositoryProblem = {
  readonly what: string
  readonly snapshot?: string | undefined
  readonly pack?: string | undefined
  readonly slice?: number | undefined
}

/**
 * What somebody has found complete in the index: that all blobs of a tree or list are stored. `key`: hex of a SHA-256 over all that the finding depends on, ids of
 * blobs and trees above all. True as long as a writer or lease is open that was so when it was said; kept for later processes with the next commit.
 */
export interface Complete {
  has(key: string): boolean
  /** Every blob is in the index now, stored by a writer of this process or looked up. */
  add(key: string): void
}

/** What a key file says of itself. `id` is its name; `created` RFC 3339. */
export type KeyFacts = {
  readonly id: string
  readonly created: string
  readonly username: string
  readonly hostname: string
  readonly kdf: KdfParameters
}

/** `current`: the repository was opened with it. One that cannot be used has a `problem` and no `facts`. */
export type ListedKey =
  | { readonly id: string; readonly current: boolean; readonly facts: KeyFacts; readonly problem?: undefined }
  | { readonly id: string; readonly current: boolean; readonly facts?: undefined; readonly problem: string }

/** The keys of a repository: each opens it, with a password of its own. `L` is how its lock is asked for. */
export interface KeyStore<L extends Abortable = Locking> {
  /** The first 20, which are those that a password is tried on. Needs no lock. */
  list(options?: Abortable): Promise<readonly ListedKey[]>
  /**
   * A key for 256 random bits, which alone need no costly derivation. `keep` gets them, and the id, before the key is stored, makes them durable, and gives back what
   * was kept, as it is read there: the key is proven to open with that. Holds a shared lock. An INTEGRITY removes the key again; after any other error it
   * is there whole or not at all. CONFLICT.
   */
  addRandom(keep: (password: Secret, id: string) => Promise<Secret>, options?: L): Promise<KeyFacts>
  /** A key for a password that somebody made up, with all that restic has its derivation cost. `recordKey` is told its id first. The rest as `addRandom`. */
  add(password: Secret, options?: L & { readonly recordKey?: ((id: string) => Promise<void>) | undefined }): Promise<KeyFacts>
  /**
   * Removes a key, by its id or an unambiguous beginning of at least 6 characters, under the exclusive lock; its id. NOT_FOUND, USAGE; CONFLICT for the one that the repository
   * was opened with, and while anybody uses the repository; CONFIG where its place lets nothing be removed.
   */
  remove(id: string, options?: L): Promise<string>
}

/** The snapshots of a repository; always as the backend lists them now. */
export interface SnapshotStore {
  /** Every readable snapshot, in no order. One that cannot be read ends the listing with INTEGRITY naming it. */
  list(options?: Abortable): AsyncIterable<StoredSnapshot>
  /** By id or an unambiguous beginning of at least 6 characters. NOT_FOUND, USAGE. */
  get(id: string, options?: Abortable): Promise<StoredSnapshot>
  /** Removes snapshot files (full ids) under the exclusive lock; missing ones are success. The data goes at the next prune. CONFLICT. */
  forget(ids: readonly string[], options?: Locking): Promise<void>
  /** The same for one after another, with other work between: takes the exclusive lock, held until disposed. CONFLICT. */
  beginForget(options?: Locking): Promise<SnapshotRemoval>
  /** Until when the server keeps a snapshot file (full id), whoever asks; undefined = it may be removed. */
  lockedUntil(id: string, options?: Abortable): Promise<Date | undefined>
}

/** The repository, held for removing snapshots. */
export interface SnapshotRemoval extends AsyncDisposable {
  /** Aborts with CONFLICT when the lock is lost. */
  readonly signal: AbortSignal
  /** Removes one snapshot file (full id), after a look at the lock; a missing one is success. Atomic. */
  remove(id: string, options?: Abortable): Promise<void>
}

/** A data blob and where its bytes go. */
export type BlockToRead = { readonly id: Uint8Array; readonly into: Uint8Array }

/** A data blob of so many bytes, and the byte of a file it goes to. */
export type BlockToWrite = { readonly id: Uint8Array; readonly at: number; readonly bytes: number }

/** Reads verified blobs: MAC, decompression, SHA-256. Loads the index at first use and again when an id is unknown. */
export interface BlobReader {
  /** A data blob whole. The bytes are shared with the cache: not to be changed. NOT_FOUND, INTEGRITY. */
  read(id: Uint8Array, options?: Abortable): Promise<Uint8Array>
  /**
   * Data blobs of exactly `into.length` bytes each, past the cache. Neighbours in a pack are read together and opened in worker threads. INTEGRITY also
   * when one has another length. Nothing writes to their memory any more, also when it rejects.
   */
  readBlocks(blocks: readonly BlockToRead[], options?: Abortable): Promise<void>
  /**
   * Data blobs into an open file of this process that reads as zeros where they go, by the threads that open them; nothing that was not verified is written. Bytes written, pages
   * of zeros left out; undefined when some are better read with `readBlocks`, which also says what is wrong with them. Errors: those of the backend, Node's own for the file.
   */
  writeBlocks(blocks: readonly BlockToWrite[], descriptor: number, options?: Abortable): Promise<number | undefined>
  /** Entries of a directory, in the order stored. INTEGRITY. */
  tree(id: string, options?: Abortable): Promise<readonly TreeNode[]>
  /** The entry at `path` (components from the root tree) or undefined. */
  find(treeId: string, path: readonly string[], options?: Abortable): Promise<TreeNode | undefined>
  /**
   * Random access to a file's bytes; blocks of zeros are `zero` extents. Holds its content list, no more. INTEGRITY when blobs are missing. `blockBytes`: the list was found
   * complete before (`Complete`) in blocks of so many bytes, which are then not looked up; one that is missing all the same is INTEGRITY when it is read.
   */
  openFile(node: TreeNode, options?: Abortable & { readonly blockBytes?: number | undefined }): Promise<BlockSource>
}

export type WriterStats = {
  /** Blobs and bytes added by this writer. */
  readonly newBlobs: number
  readonly storedBytes: number
  /** Blocks that were known already, zero blocks included. */
  readonly knownBlobs: number
}

/** Writes one snapshot. Disposed before `commit` = aborted: no snapshot, at most unreferenced packs. */
export interface RepositoryWriter extends AsyncDisposable {
  readonly blocks: BlockPipeline
  /** Aborts with CONFLICT when the lock is lost, or with the first failure. */
  readonly signal: AbortSignal
  /** Stores a small blob. Returns its id and the bytes added. At most 8 MiB; longer content is cut into blobs by the caller (`saveFile`). */
  saveBlob(bytes: Uint8Array): Promise<{ readonly id: Uint8Array; readonly storedBytes: number }>
  /** Stores a directory; sorts the nodes by name. Returns the tree's hex id. USAGE for a bad or double name. */
  saveTree(nodes: readonly TreeNode[]): Promise<string>
  /** Everything durable, then the index, then the snapshot. Returns the snapshot's hex id; the writer is finished and its lock released. */
  commit(snapshot: Snapshot, options?: Abortable): Promise<string>
  stats(): WriterStats
}
