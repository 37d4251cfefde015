import { type Abortable, isAgentError, toAgentError } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import { ensureChangeTracking } from '../snapshot/index.ts'
import type { BackupDeps, BackupProgress, BackupRequest, BackupResult } from './backup-types.ts'
import { earlierPoints, expectRun } from './expected-run.ts'
import { freezeVm, lockVm, type LockedVm, releaseSnapshot } from './frozen-vm.ts'
import { chooseParent, type ParentPoint } from './parent-point.ts'
import { type DiskTransfer, planTransfers } from './plan-transfers.ts'
import { recordLocks } from './record-locks.ts'
import { type Stages, stagesOf } from './stages.ts'
import { transportClaims } from './transport-claims.ts'
import { writePoint, type Written } from './write-point.ts'

export type { BackupDeps, BackupProgress, BackupRequest, BackupResult } from './backup-types.ts'

type BackupOptions = Abortable & { readonly onProgress?: ((progress: BackupProgress) => void) | undefined }

/**
 * Backs up one VM: lock → room on its datastores → programs of the job → guest scripts around quiesce and snapshot (thawed at once) → plan each disk → read, store → commit → remove the snapshot. What is held is
 * in `claims`; a caller that disposes them after a failure leaves nothing behind. Not idempotent: every call makes a point or throws.
 */
export async function backupVm(
  deps: BackupDeps,
  claims: Claims,
  request: BackupRequest,
  options: BackupOptions = {},
): Promise<BackupResult> {
  const locked = await lockVm(deps, claims, request.vm, options)
  // A prune takes long, and its end is waited for: not with a snapshot taken and removed at each try.
  await deps.provider.refuseIfHeld?.(options)
  const stages = stagesOf(deps, claims, request, locked.config)
  return stages.aroundRun(() => backupLocked(deps, claims, request, locked, stages, options), options)
}

async function backupLocked(
  deps: BackupDeps,
  claims: Claims,
  request: BackupRequest,
  locked: LockedVm,
  stages: Stages,
  options: BackupOptions,
): Promise<BackupResult> {
  const { vsphere, snapshots, provider, clock } = deps
  const { vm } = request
  const { config: before } = locked
  const warnings: string[] = []

  if (before.consolidationNeeded) warnings.push(`${vm.name} needed consolidation before this backup; what is not vcb's is left as it is.`)
  const earlier = await earlierPoints(provider, vm, request.mode, options)
  const { parent, reason: noParent } = await chooseParent(provider, earlier, request.mode, options)
  await deps.space.admit(before, expectRun(before, parent, earlier, clock.now()), warnings, options)
  const tracking = await ensureChangeTracking(vsphere, before, {
    allowed: request.changeTracking,
    signal: options.signal,
    cycle: async () => {
      const cycle = await claims.take('changeTrackingSnapshot', { vm, before: locked.asBefore }, [locked.lock], (claim) =>
        snapshots.create(vm, { claim, description: deps.marks.text('snapshot', claims.job, claim) }, options),
      )
      await claims.release(cycle.id)
    },
  })
  if (!tracking.active) warnings.push(`Change tracking is not in use: ${tracking.reason}.`)

  const frozen = await stages.aroundSnapshot(() => freezeVm(deps, claims, locked, request, options), options)
  const { snapshot, disks, notProtected } = frozen
  warnings.push(...frozen.warnings)
  const plan = (base: ParentPoint | undefined, reason: string): Promise<readonly DiskTransfer[]> =>
    planTransfers(
      snapshots,
      {
        snapshot,
        disks,
        parent: base,
        reason,
        allocatedMap: before.snapshotCount === 0,
        untracked: tracking.active ? undefined : tracking.reason,
      },
      options,
    )

  const storing = { ...options, recordLocks: recordLocks(claims), claims: transportClaims(claims, [frozen.claim]) }
  let written: Written
  try {
    written = await writePoint(deps, request, frozen, await plan(parent, noParent), parent, warnings, storing)
  } catch (error) {
    // A parent whose data cannot be reused must not stop the nightly run: the same frozen disks are read once more, in full.
    if (parent === undefined || !isAgentError(toAgentError(error), 'INTEGRITY', 'NOT_FOUND')) throw error
    const reason = `the parent point ${parent.id.slice(0, 8)} cannot be built on: ${toAgentError(error).message}`
    deps.log.warn('reading in full', { vm: vm.name, reason })
    warnings.push(`Read in full, because ${reason}`)
    written = await writePoint(deps, request, frozen, await plan(undefined, reason), undefined, warnings, storing)
  }

  await releaseSnapshot(claims, frozen.claim)
  const snapshotLifetimeMs = Math.round(clock.monotonicMs() - frozen.sinceMs)
  await stages.stored(written, options)
  return {
    vm,
    ...written,
    time: snapshot.createdAt,
    consistency: frozen.level,
    consistencyReason: frozen.reason,
    frozenMs: frozen.frozenMs,
    snapshotLifetimeMs,
    notProtected,
    warnings,
  }
}
