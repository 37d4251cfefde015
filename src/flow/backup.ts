import {
  type Abortable,
  AgentError,
  type BackupMode,
  type Clock,
  type ConsistencyLevel,
  type DiskFacts,
  type DiskRef,
  isAgentError,
  type Log,
  type NotProtected,
  type PointId,
  type QuiescePolicy,
  type RunId,
  type SnapshotRef,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import { describeVm, protectionOf } from '../inventory/index.ts'
import type { Claims, VmLocks } from '../journal/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import { takeConsistent } from '../quiesce/index.ts'
import { ensureChangeTracking, type Snapshots } from '../snapshot/index.ts'
import { openPlanned, type Transport } from '../transport/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import { type DiskTransfer, planTransfers } from './plan-transfers.ts'
import { readConfigurationFiles } from './configuration-files.ts'
import { findParent, type ParentPoint } from './parent-point.ts'

/** Everything the flow uses; made by the composition root. */
export type BackupDeps = {
  readonly vsphere: Vsphere
  readonly snapshots: Snapshots
  /** In the order they are tried. */
  readonly transports: readonly Transport[]
  readonly provider: BackupProvider
  readonly locks: VmLocks
  readonly clock: Clock
  readonly log: Log
}

export type BackupRequest = {
  readonly vm: VmRef
  readonly run: RunId
  /** `auto` and `incremental` build on the last complete point where that is safe; `full` never does. */
  readonly mode: 'auto' | BackupMode
  readonly quiesce: QuiescePolicy
  /** Whether change tracking may be switched on. */
  readonly changeTracking: boolean
  readonly excludeDisks: readonly string[]
}

export type BackupProgress = { readonly vm: string; readonly disk: string; readonly doneBytes: number; readonly totalBytes: number }

/** What became of one VM; printed by `vcb backup --json`. */
export type BackupResult = {
  readonly vm: VmRef
  readonly point: PointId
  readonly time: string
  readonly mode: BackupMode
  readonly consistency: ConsistencyLevel
  readonly consistencyReason: string
  /** From the snapshot's creation to its removal, redo logs committed. */
  readonly snapshotLifetimeMs: number
  readonly disks: readonly DiskFacts[]
  readonly notProtected: readonly NotProtected[]
  readonly warnings: readonly string[]
}

/** What the first half hands to the second: the frozen disks and how they are to be read. */
type Frozen = {
  readonly config: VmConfig
  readonly snapshot: SnapshotRef
  readonly level: ConsistencyLevel
  readonly reason: string
  readonly notProtected: readonly NotProtected[]
}

/**
 * Backs up one VM: lock → quiesce and snapshot (thawed at once) → plan each disk → read, store → commit → remove the snapshot. What is held is
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
  const before = await describeVm(vsphere, vm, options)
  refuseVm(before)
  const incremental = provider.incremental
  const parent = request.mode === 'full' || !incremental.ok ? undefined : await findParent(provider.points, vm, options)
  const noParent =
    request.mode === 'full' ? 'a full backup was asked for' : incremental.ok ? 'there is no earlier point of this VM' : incremental.reason
  const tracking = await ensureChangeTracking(vsphere, before, {
    allowed: request.changeTracking,
    signal: options.signal,
    cycle: async () => {
      const cycle = await claims.take('changeTrackingSnapshot', { vm }, [lock.id], (claim) => snapshots.create(vm, { claim }, options))
      await claims.release(cycle.id)
    },
  })
  if (!tracking.active) warnings.push(`Change tracking is not in use: ${tracking.reason}.`)

  const consistent = await takeConsistent(
    before,
    request.quiesce,
    async (quiesce) => {
      const held = await claims.take('snapshot', { vm, quiesce: quiesce !== undefined }, [lock.id], (claim) =>
        snapshots.create(vm, { claim, quiesce }, options),
      )
      return { ...held.ref, claim: held.id, sinceMs: clock.monotonicMs() }
    },
    { clock, log: deps.log, signal: options.signal },
  )
  const { claim: snapshotClaim, sinceMs, ...snapshot } = consistent.taken
  const config = await snapshots.configOf(snapshot, before, options)
  const { disks, notProtected } = disksToRead(deps, before, config, request.excludeDisks)
  if (disks.length === 0) {
    throw new AgentError(
      'USAGE',
      `No disk of ${vm.name} can be backed up: ${notProtected.map((each) => `${each.disk} ${each.reason}`).join('; ')}.`,
      {
        subject: vm.name,
        next: 'Leave this VM out, or change the mode of its disks.',
      },
    )
  }
  const frozen: Frozen = { config, snapshot, level: consistent.level, reason: consistent.reason, notProtected }
  const plan = (base: ParentPoint | undefined, reason: string): Promise<readonly DiskTransfer[]> =>
    planTransfers(snapshots, { snapshot, disks, parent: base, reason, allocatedMap: before.snapshotCount === 0 }, options)

  let written: Written
  try {
    written = await writePoint(deps, request, frozen, await plan(parent, noParent), parent, warnings, options)
  } catch (error) {
    // A parent whose data cannot be reused must not stop the nightly run: the same frozen disks are read once more, in full.
    if (parent === undefined || !isAgentError(toAgentError(error), 'INTEGRITY', 'NOT_FOUND')) throw error
    const reason = `the parent point ${parent.id.slice(0, 8)} cannot be built on: ${toAgentError(error).message}`
    deps.log.warn('reading in full', { vm: vm.name, reason })
    warnings.push(`Read in full, because ${reason}`)
    written = await writePoint(deps, request, frozen, await plan(undefined, reason), undefined, warnings, options)
  }

  // The point exists: from here on a signal must not keep the snapshot from being removed.
  await claims.release(snapshotClaim)
  const snapshotLifetimeMs = Math.round(clock.monotonicMs() - sinceMs)
  await claims.release(lock.id)
  return {
    vm,
    ...written,
    time: snapshot.createdAt,
    consistency: frozen.level,
    consistencyReason: frozen.reason,
    snapshotLifetimeMs,
    notProtected,
    warnings,
  }
}

function refuseVm(config: VmConfig): void {
  const { name } = config.vm
  if (config.isTemplate) {
    throw new AgentError('USAGE', `${name} is a template, which vSphere cannot snapshot.`, {
      subject: name,
      next: 'Convert it to a virtual machine first, or leave it out.',
    })
  }
  if (config.connectionState !== 'connected') {
    throw new AgentError('UNAVAILABLE', `${name} is ${config.connectionState}: its host cannot reach it.`, {
      subject: name,
      retry: 'later',
      next: 'Repair the VM in vSphere, or leave it out.',
    })
  }
}

/**
 * The disks the snapshot froze and a transport can read. What is left out is judged by the VM's own list of disks, because a snapshot's
 * configuration does not name the disks it does not hold.
 */
function disksToRead(
  deps: BackupDeps,
  before: VmConfig,
  frozen: VmConfig,
  excludes: readonly string[],
): { readonly disks: readonly DiskRef[]; readonly notProtected: readonly NotProtected[] } {
  const { disks: held, notProtected } = protectionOf(before, excludes, frozen)
  const disks: DiskRef[] = []
  const left = [...notProtected]
  for (const disk of held) {
    const refusals = deps.transports.map((transport) => ({ name: transport.name, verdict: transport.handles(disk) }))
    if (refusals.length > 0 && refusals.every(({ verdict }) => !verdict.ok)) {
      const reasons = refusals.map(({ name, verdict }) => `${name}: ${verdict.ok ? '' : verdict.reason}`)
      left.push({ disk: disk.label, reason: `no transport reads disks of its kind (${reasons.join('; ')})` })
    } else disks.push(disk)
  }
  return { disks, notProtected: left }
}

type Written = { readonly point: PointId; readonly mode: BackupMode; readonly disks: readonly DiskFacts[] }

/** Stores configuration and disks and commits. Throws with nothing listed. */
async function writePoint(
  deps: BackupDeps,
  request: BackupRequest,
  frozen: Frozen,
  transfers: readonly DiskTransfer[],
  parent: ParentPoint | undefined,
  warnings: string[],
  options: Abortable & { readonly onProgress?: ((progress: BackupProgress) => void) | undefined },
): Promise<Written> {
  const { config, snapshot } = frozen
  const mode: BackupMode = transfers.some((transfer) => transfer.mode === 'incremental') ? 'incremental' : 'full'
  await using writer = await deps.provider.begin(
    { config, run: request.run, time: snapshot.createdAt, parent: mode === 'incremental' ? parent?.id : undefined },
    options,
  )
  for (const file of await readConfigurationFiles(deps.vsphere, config, warnings, options))
    await writer.putFile(file.name, file.body, options)

  const facts: DiskFacts[] = []
  for (const { disk, areas, ...transfer } of transfers) {
    const planned = await openPlanned({ snapshot, config, disk }, deps.transports, { log: deps.log, signal: options.signal })
    await using source = planned.source
    const totalBytes = areas.bytes
    const report = (doneBytes: number): void => options.onProgress?.({ vm: request.vm.name, disk: disk.label, doneBytes, totalBytes })
    report(0)
    const written = await writer.putDisk(
      disk,
      source,
      { mode: transfer.mode, ranges: areas },
      { signal: options.signal, onProgress: (at) => report(at.doneBytes) },
    )
    report(totalBytes)
    facts.push({
      key: disk.key,
      label: disk.label,
      capacityBytes: disk.capacityBytes,
      fileName: disk.fileName,
      uuid: disk.uuid,
      changeId: disk.changeId,
      thin: disk.thin,
      mode: transfer.mode,
      modeReason: transfer.reason,
      transport: planned.transport,
      transportReason: planned.reason,
      refused: planned.refused,
      ...written,
    })
  }
  const { id, manifest } = await writer.commit(
    { mode, consistency: frozen.level, consistencyReason: frozen.reason, disks: facts, notProtected: frozen.notProtected },
    options,
  )
  return { point: id, mode: manifest.mode, disks: manifest.disks }
}
