/**
 * Rank 4. The only room that knows the order of stages. Each flow reads top to bottom; what it holds is in `Claims`, and `releasers.ts` is the one
 * registry of how each kind of claim is undone, by whomever.
 *
 * - `backup.ts`: lock → quiesce, snapshot → plan disks → read, store → commit → release; `foresee-backup.ts`: what it would do, doing nothing.
 * - `stages.ts`: programs of the proxy around a job's run.
 * - `mount-session.ts`: lock → quiesce, snapshot → open disks → present → lease, until it ends.
 * - `restore-directory.ts`, `restore-vm.ts`: the same reversed.
 * - `plan-forget.ts`, `forget-points.ts`: which points go and why → lock → read what must stay → remove.
 * - `copy-point.ts`: open there → compare digests → read, store → commit, in another repository.
 * - `manual-snapshot.ts`: the snapshots of `vcbSnapshot`, which are the user's and no claims.
 * - `recover.ts`: what dead processes left.
 * - `orphans.ts`: what carries our mark in vSphere but belongs to no job; what a lost journal knew.
 */
export { backupVm, type BackupDeps, type BackupProgress, type BackupRequest, type BackupResult } from './backup.ts'
export {
  type BackupForecast,
  type DiskForecast,
  type ForecastDeps,
  type ForecastRequest,
  foreseeBackup,
} from './foresee-backup.ts'
export { type CopiedPoint, type CopyDeps, copyOf, type CopyOptions, copyPoint } from './copy-point.ts'
export { type ForgetDeps, forgetPoints, type ForgetResult, type VmForgetResult } from './forget-points.ts'
export {
  type ForgetPlan,
  type ForgetRequest,
  planForget,
  type PlanForgetDeps,
  type PlannedPoint,
  type VmForgetPlan,
} from './plan-forget.ts'
export type { LeaseEnd } from './hold-lease.ts'
export { mountDirectoryPath } from './mount-directory.ts'
export { mountSession } from './mount-session.ts'
export type {
  DiskUse,
  MountDeps,
  Mounted,
  MountRequest,
  MountResult,
  MountType,
  PointToMount,
  VmdkToMount,
  VmToMount,
} from './mount-types.ts'
export {
  findManualSnapshot,
  type ManualSnapshot,
  type ManualSnapshotDeps,
  type ManualSnapshotRequest,
  removeManualSnapshot,
  takeManualSnapshot,
} from './manual-snapshot.ts'
export { recordLocks } from './record-locks.ts'
export { recover, type RecoverDeps, type RecoverRequest } from './recover.ts'
export { createReleasePatience, type ReleasePatience } from './release-patience.ts'
export { createReleasers, type ReleaseDeps } from './releasers.ts'
export {
  type DirectoryRestoreRequest,
  type DirectoryRestoreResult,
  restoreToDirectory,
  type RestoreOptions,
  type RestoreProgress,
} from './restore-directory.ts'
export { adoptMarked, findOrphans, type Orphan, type OrphanDeps, type OrphanSearch, type Removed, removeOrphans } from './orphans.ts'
export { removeExport } from './remove-export.ts'
export { skipOf, type StagesRequest, StageSkip } from './stages.ts'
export { restoreVm, type VmRestoreRequest, type VmRestoreResult } from './restore-vm.ts'
