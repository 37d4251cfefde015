/**
 * Rank 1. The restic repository format, version 2, written natively: keys, crypto, blobs, packs, index, trees, snapshots, locks.
 * Any stock restic can list, check, mount, restore and prune what is written here, and we read what restic wrote.
 * `initRepository` and `openRepository` give a `Repository`; its `beginWrite` gives a `RepositoryWriter` with a `BlockPipeline` that
 * takes the blocks of disk images through worker threads. Files lie behind the small `Backend` interface.
 * Layout and invariants: docs/formats/restic-repository.md.
 */
export type { Compression } from './compression.ts'
export { type Backend, CONFIG_FILE, type FileKind, type FileLocks, type FileRef, type RepositoryPlace } from './backend.ts'
export type { BlockPipeline, BlockSlot, StoredBlock } from './block-pipeline.ts'
export { directoryBackend, type DirectoryBackendOptions } from './directory-backend.ts'
export { restBackend, type RestBackendDeps } from './rest-backend.ts'
export type { RestLogin } from './rest/rest-client.ts'
export type { ServerTrust } from './rest/server-trust.ts'
export { type ServerFiles, sftpBackend, type SftpBackendDeps } from './sftp-backend.ts'
export type { LockEnds, OpenLockEnds } from './lock-ends.ts'
export type { Amount, MostUnused } from './prune-plan.ts'
export { BlobIds, ID_BYTES, idBytes, idHex, isHexId } from './ids.ts'
export { initRepository, openRepository } from './open-repository.ts'
export type {
  BlobReader,
  BlockToRead,
  CheckOptions,
  Complete,
  KdfParameters,
  KeyFacts,
  KeyStore,
  ListedKey,
  PruneOptions,
  PruneReport,
  RenewOptions,
  RenewReport,
  Repository,
  RepositoryDeps,
  RepositoryLease,
  RepositoryOptions,
  RepositoryProblem,
  RepositorySize,
  RepositoryWriter,
  ShortSnapshot,
  SnapshotRemoval,
  SnapshotStore,
  WriterStats,
} from './repository.ts'
export { type BucketLookup, regionOfHost } from './s3/address.ts'
export { readProfile, type S3Credentials } from './s3/credentials.ts'
export { type ObjectLock, s3Backend, type S3BackendDeps } from './s3-backend.ts'
export type { Locking, RecordLockNames } from './repository-lock.ts'
export type { TriesDeps } from './tries.ts'
export { SLICES, sliceOf } from './slices.ts'
export type { Snapshot, StoredSnapshot } from './snapshot.ts'
export type { NodeType, TreeNode } from './tree.ts'
export { zeroBlockId } from './zero-block.ts'
