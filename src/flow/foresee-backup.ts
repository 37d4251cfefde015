import {
  type Abortable,
  AgentError,
  type BackupMode,
  type DiskRef,
  type NotProtected,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import { describeVm } from '../inventory/index.ts'
import type { VmLocks } from '../journal/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import { changeBase, trackingNow } from '../snapshot/index.ts'
import { foreseeDisk, type Foresight, NoTransportError } from '../transport/index.ts'
import type { BackupDeps, BackupRequest } from './backup-types.ts'
import { disksToRead, nothingToRead, refuseVm } from './disks-to-read.ts'
import { type Estimate, estimateTransfer, filesOf } from './estimate-transfer.ts'
import { earlierPoints, expectRun } from './expected-run.ts'
import { chooseParent, type ParentPoint } from './parent-point.ts'

/** What would be done with one disk. */
export type DiskForecast = {
  readonly key: number
  readonly label: string
  readonly capacityBytes: number
  readonly mode: BackupMode
  readonly modeReason: string
  /** The first that says it can; absent when none does. */
  readonly transport: Foresight['transport'] | undefined
  /** Of every transport, in the order they are tried. */
  readonly verdicts: readonly Foresight[]
  readonly estimate: Estimate
}

export type BackupForecast = {
  readonly vm: VmRef
  readonly mode: BackupMode
  readonly disks: readonly DiskForecast[]
  readonly notProtected: readonly NotProtected[]
  /** Bytes that earlier runs let an incremental expect, over all disks; undefined when there is nothing to go by. */
  readonly expectedBytes: number | undefined
  readonly warnings: readonly string[]
  /** Why the backup would end without a point, in the order of the run. */
  readonly refusals: readonly AgentError[]
}

export type ForecastDeps = Pick<BackupDeps, 'vsphere' | 'transports' | 'space' | 'clock'> & {
  readonly provider: Pick<BackupProvider, 'incremental' | 'points'>
  readonly locks: Pick<VmLocks, 'refusal'>
}
export type ForecastRequest = Pick<BackupRequest, 'vm' | 'mode' | 'changeTracking' | 'excludeDisks'>

/**
 * What `backupVm` would do with a VM now, in the same order and by the same rules, taking nothing and changing nothing: no lock, no snapshot, no claim.
 * What only the snapshot shows is said to be so. A guard that would end the run is in `refusals`; throws only what keeps from looking (NOT_FOUND, AUTH,
 * UNAVAILABLE) and USAGE.
 */
export async function foreseeBackup(deps: ForecastDeps, request: ForecastRequest, options?: Abortable): Promise<BackupForecast> {
  const { vsphere, provider, transports, clock } = deps
  const { vm } = request
  const warnings: string[] = []
  const refusals: AgentError[] = []
  const guard = async (look: () => unknown): Promise<void> => {
    try {
      await look()
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      refusals.push(shown)
    }
  }

  const locked = await deps.locks.refusal(vm)
  if (locked !== undefined) refusals.push(locked)
  const config = await describeVm(vsphere, vm, options)
  await guard(() => refuseVm(config))
  if (config.consolidationNeeded) warnings.push(`${vm.name} needs consolidation; what is not vcb's is left as it is.`)
  const earlier = await earlierPoints(provider, vm, request.mode, options)
  const { parent, reason: noParent } = await chooseParent(provider, earlier, request.mode, options)
  const run = expectRun(config, parent, earlier, clock.now())
  await guard(() => deps.space.admit(config, run, warnings, options))
  const tracking = trackingNow(config, request.changeTracking)
  if (tracking === undefined) warnings.push('Change tracking would be switched on first, with a short snapshot of its own.')
  else if (!tracking.active) warnings.push(`Change tracking is not in use: ${tracking.reason}.`)

  const { disks, notProtected } = disksToRead(transports, config, config, request.excludeDisks)
  if (disks.length === 0) refusals.push(nothingToRead(vm, notProtected))
  const files = await filesOf(vsphere, vm, options)
  const forecasts: DiskForecast[] = []
  for (const disk of disks) {
    const planned = modeOf(disk, parent, noParent)
    const seen = await foreseeDisk({ config, disk }, transports, planned.mode === 'full' ? 'allocated' : 'changed', options)
    const chosen = await choose(deps, config, disk, planned, seen, options)
    if (chosen.transport === undefined) refusals.push(new NoTransportError({ config, disk }, refusalsOf(chosen.verdicts)))
    const base = chosen.mode === 'incremental' ? planned.changeId : undefined
    const estimate = await estimateTransfer(vsphere, { config, disk, files, changeId: base }, options)
    const { key, label, capacityBytes } = disk
    forecasts.push({ key, label, capacityBytes, ...chosen, estimate })
  }
  const mode = forecasts.some((disk) => disk.mode === 'incremental') ? 'incremental' : 'full'
  const most = forecasts.reduce((sum, { estimate }) => sum + estimate.bytes, 0)
  const expectedBytes = mode === 'full' || run.changedPerHour === undefined ? undefined : Math.round(Math.min(run.bytes, most))
  return { vm, mode, disks: forecasts, notProtected, expectedBytes, warnings, refusals }
}

type PlannedMode = { readonly mode: BackupMode; readonly modeReason: string; readonly changeId?: string | undefined }

/** By the disk's change id as of now; the snapshot's may still say otherwise. */
function modeOf(disk: DiskRef, parent: ParentPoint | undefined, noParent: string): PlannedMode {
  if (parent === undefined) return { mode: 'full', modeReason: noParent }
  const before = parent.manifest.disks.find(({ key }) => key === disk.key)
  const base = changeBase(before, disk)
  return base.use ? { mode: 'incremental', modeReason: base.reason, changeId: base.changeId } : { mode: 'full', modeReason: base.reason }
}

/** The transport that would be taken; where only one that reads whole disks works, the disk becomes a full read. */
async function choose(
  { transports }: ForecastDeps,
  config: VmConfig,
  disk: DiskRef,
  { mode, modeReason }: PlannedMode,
  seen: readonly Foresight[],
  options?: Abortable,
): Promise<Pick<DiskForecast, 'mode' | 'modeReason' | 'transport' | 'verdicts'>> {
  const transport = firstOf(seen)
  const whole = transports.filter(({ wholeDisks }) => wholeDisks === true)
  if (transport !== undefined || mode === 'full' || whole.length === 0) return { mode, modeReason, transport, verdicts: seen }
  const again = await foreseeDisk({ config, disk }, whole, 'allocated', options)
  const last = firstOf(again)
  if (last === undefined) return { mode, modeReason, transport, verdicts: seen }
  const verdicts = seen.map((one) => again.find((other) => other.transport === one.transport) ?? one)
  return { mode: 'full', modeReason: `only ${last} works, which reads whole disks`, transport: last, verdicts }
}

const firstOf = (seen: readonly Foresight[]): Foresight['transport'] | undefined => seen.find(({ verdict }) => verdict.ok)?.transport

const refusalsOf = (seen: readonly Foresight[]): readonly { readonly transport: Foresight['transport']; readonly reason: string }[] =>
  seen.flatMap(({ transport, verdict }) => (verdict.ok ? [] : [{ transport, reason: verdict.reason }]))
