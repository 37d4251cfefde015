/**
 * Rank 2. Where restore points go, and how they come back. One interface (`provider.ts`), adapters chosen by URL in `openProvider`:
 *
 * - `restic:PATH` or a plain path: a standard restic repository; every point a complete image, incrementals reuse the parent's blobs.
 * - `sftp:USER@HOST:PATH`, `rest:https://HOST/PATH/`: the same on a server (`open-place.ts`), as stock restic finds it there.
 * - `s3:https://HOST/BUCKET/PREFIX`: the same in a bucket.
 * - `tar:PATH`, `tar:-`, a tape device: one tar archive per point, disks as sparse entries.
 * - `dir:PATH`: VMX and VMDK per point in a directory, full images only; `vcb:PATH` the same with VCB's names and a `catalog`.
 * - `borg:REPOSITORY`: the same archive into a Borg repository through borg, and back (`stream-product.ts`).
 * - `restic-binary:REPOSITORY`: the same in a restic repository through restic, on whatever backend it knows.
 * - `tape:DIR`: the same on what is written and read like a tape (`tape-device.ts`).
 * - `command:PROGRAM`: the same archive into a program's standard input; the program dies with us, before its input ends.
 *
 * A point that did not commit does not exist, whichever the adapter. The layouts are in docs/formats/restore-point.md and tar-archive.md.
 */
export type { Compression } from '../restic/index.ts'
export { isOwnRepository, keptByProduct } from './provider-url.ts'
export { hasRepository } from './has-repository.ts'
export { type ExportFormat, openProvider, type OpenProviderOptions } from './open-provider.ts'
export { parseProviderUrl, sameDestination } from './provider-url.ts'
export type { PlaceDeps } from './open-place.ts'
export type { RepositoryAccess, S3Access } from './repository-access.ts'
export type { S3Place } from './s3-place.ts'
export { formatResticPlace, type ResticPlace, type RestPlace, type SftpPlace } from './restic-place.ts'
export { exportCatalog, type ExportedDisk, exportImage, exportNames, exportStem } from './vcb-layout.ts'
export { type MostUnused, type PruneReport, type RenewReport, type ShortSnapshot, SLICES } from '../restic/index.ts'
export { removeNewRepository } from './remove-new-repository.ts'
export { hasLocks, removeLocks } from './remove-locks.ts'
export { settleNewKey } from './settle-new-key.ts'
export { removeDeleted } from './remove-deleted.ts'
export { removePartials, type RemovalDeps, type RunPlaces, type ProductDeps } from './remove-partials.ts'
export type {
  BackupProvider,
  BackupReader,
  BackupWriter,
  DiskPlan,
  DiskProgress,
  DiskWritten,
  Locking,
  KeyFacts,
  KeyStore,
  ListedKey,
  NewKey,
  NewRepository,
  ParentDigests,
  PointDeletion,
  PointFacts,
  PointList,
  PointRequest,
  PointsCheck,
  PointsHold,
  PointStore,
  Problem,
  PruneRequest,
  RenewRequest,
  RepositoryLocks,
  RepositorySize,
} from './provider.ts'
