import { type Abortable, type ClaimId, isAgentError, toAgentError } from '../core/index.ts'
import { describeVm } from '../inventory/index.ts'
import { type Claims, LeftError } from '../journal/index.ts'
import { takeConsistent } from '../quiesce/index.ts'
import { ensureChangeTracking, linksOf } from '../snapshot/index.ts'
import type { BackupDeps, BackupProgress, BackupRequest, BackupResult } from './backup-types.ts'
import { disksToRead, nothingToRead, refuseVm, storesOf } from './disks-to-read.ts'
import { earlierPoints, expectRun } from './expected-run.ts'
import type { Frozen } from './frozen.ts'
import { chooseParent, type ParentPoint } from './parent-point.ts'
import { type DiskTransfer, planTransfers } from './plan-transfers.ts'
import { recordLocks } from './record-locks.ts'
import { transportClaims } from './transport-claims.ts'
import { writePoint, type Written } from './write-point.ts'

export type { BackupDeps, BackupProgress, BackupRequest, BackupResult } from './backup-types.ts'

/**
 * Backs up one VM: lock → room on its datastores → quiesce and snapshot (thawed at once) → plan each disk → read, store → commit → remove the snapshot. What is held is
 * in `claims`; a caller that disposes them after a failure leaves nothing behind. Not idempotent: every call makes a point or throws.
 */
export async function backupVm(
  deps: BackupDeps,
  claims: Claims,
  request: BackupRequest,
  options: Abortable & { readonly onProgress?: ((progress: BackupProgress) => void) | undefined } = {},
): Promise<BackupResult> {
  const { vsphere, snapshots, provider, clock } = deps
  const { vm } = request
  const warnings: string[] = []

  const lock = await claims.take('vmLock', { vm }, [], (claim) => deps.locks.acquire(vm, claim))
  let before = await describeVm(vsphere, vm, options)
  refuseVm(before)
  if (await deps.limits.snapshot(storesOf(before), options)) {
    before = await describeVm(vsphere, vm, options)
    refuseVm(before)
  }
  // Told apart after the removal: redo logs that were there before are not ours to merge.
  const asBefore = { vmPathName: before.vmPathName, consolidationNeeded: before.consolidationNeeded, links: linksOf(before.disks) }
  if (before.consolidationNeeded) warnings.push(`${vm.name} needed consolidation before this backup; what is not vcb's is left as it is.`)
  const earlier = await earlierPoints(provider, vm, request.mode, options)
  const { parent, reason: noParent } = await chooseParent(provider, earlier, request.mode, options)
  await deps.space.admit(before, expectRun(before, parent, earlier, clock.now()), warnings, options)
  const tracking = await ensureChangeTracking(vsphere, before, {
    allowed: request.changeTracking,
    signal: options.signal,
    cycle: async () => {
      const cycle = await claims.take('changeTrackingSnapshot', { vm, before: asBefore }, [lock.id], (claim) =>
        snapshots.create(vm, { claim, description: deps.marks.text('snapshot', claims.job, claim) }, options),
      )
      await claims.release(cycle.id)
    },
  })
  if (!tracking.active) warnings.push(`Change tracking is not in use: ${tracking.reason}.`)

  const consistent = await takeConsistent(
    before,
    request.quiesce,
    async (quiesce, within) => {
      const held = await claims.take('snapshot', { vm, quiesce: quiesce !== undefined, before: asBefore }, [lock.id], (claim) =>
        snapshots.create(vm, { claim, quiesce, within, description: deps.marks.text('snapshot', claims.job, claim) }, options),
      )
      return { ...held.ref, claim: held.id, sinceMs: clock.monotonicMs() }
    },
    { clock, log: deps.log, freezeLimitMs: request.freezeLimitMs, signal: options.signal },
  )
  const { claim: snapshotClaim, sinceMs, ...snapshot } = consistent.taken
  const config = await snapshots.configOf(snapshot, before, options)
  const { disks, notProtected } = disksToRead(deps.transports, before, config, request.excludeDisks)
  if (disks.length === 0) throw nothingToRead(vm, notProtected)
  const frozen: Frozen = { config, snapshot, level: consistent.level, reason: consistent.reason, notProtected }
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

  const storing = { ...options, recordLocks: recordLocks(claims), claims: transportClaims(claims, [snapshotClaim]) }
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

  await releaseNow(claims, snapshotClaim)
  const snapshotLifetimeMs = Math.round(clock.monotonicMs() - sinceMs)
  return {
    vm,
    ...written,
    time: snapshot.createdAt,
    consistency: frozen.level,
    consistencyReason: frozen.reason,
    frozenMs: consistent.frozenMs,
    snapshotLifetimeMs,
    notProtected,
    warnings,
  }
}

/**
 * The point exists: neither a signal nor a release that fails may take it back. What could not be released stays among the claims, which tell
 * it when the job ends. So does a snapshot below a disk that a transport could not give back.
 */
async function releaseNow(claims: Claims, snapshot: ClaimId): Promise<void> {
  if (claims.held.some((held) => held.dependsOn.includes(snapshot))) return
  try {
    await claims.release(snapshot)
  } catch (error) {
    if (!(error instanceof LeftError)) throw error
  }
}
