/**
 * Rank 2. The agent's own snapshots: create with the claim id in the name, find by claim, read the configuration they froze, ask what
 * changed, remove and consolidate. A snapshot that is not ours is never touched.
 *
 * `SnapshotChanges` is who carries out what changes them: the API, or `vim-cmd` in the shell of a host whose licence lets its API only show. What is
 * there is read through the API either way.
 *
 * Change tracking is believed only where its answers add up; every doubt ends in a reason and a full read. `changeBase` decides before asking
 * whether a stored changeId may be used at all, `ensureChangeTracking` switches tracking on.
 *
 * An open snapshot's redo logs grow: `createSpaceGuard` compares free space with their forecast before one is made, and watches while it is open.
 */
export { presentVm, type PresentVm } from './present-vm.ts'
export { type ChangeBase, changeBase } from './change-base.ts'
export { ensureChangeTracking, trackingNow, type TrackingState } from './change-tracking.ts'
export { changedAreas, type QueryWindow } from './changed-areas.ts'
export { apiChanges } from './api-changes.ts'
export { shellChanges, shellWhereRestricted } from './shell-changes.ts'
export type { SnapshotChanges, SnapshotSpec } from './snapshot-changes.ts'
export { claimOfName } from './snapshot-name.ts'
export { linksOf } from './remove-snapshot.ts'
export type { FindOptions, Removal, RemoveOptions, SnapshotRequest, Snapshots } from './snapshots.ts'
export { changeRate, type ExpectedRun, type SpaceReserve } from './redo-forecast.ts'
export { createSpaceGuard, noSpaceGuard, type SpaceGuard, type SpaceGuardOptions, type SpaceWatch } from './space-guard.ts'
export { createSnapshots } from './vsphere-snapshots.ts'
