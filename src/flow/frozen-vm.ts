import type { Abortable, ClaimId, DiskRef, VmBefore, VmConfig, VmRef, WindowsQuiesce } from '../core/index.ts'
import { describeVm } from '../inventory/index.ts'
import { type Claims, LeftError } from '../journal/index.ts'
import { takeConsistent, toolsQuiescer } from '../quiesce/index.ts'
import { takesQuiesceSpec } from '../vsphere/index.ts'
import { linksOf } from '../snapshot/index.ts'
import type { BackupDeps, BackupRequest } from './backup-types.ts'
import { disksToRead, nothingToRead, refuseVm, storesOf } from './disks-to-read.ts'
import type { Frozen } from './frozen.ts'
import { aroundSnapshot, scriptsFile, type ScriptsSaid } from './guest-scripts.ts'

/** What backup and mount use to come to a frozen VM. */
export type FreezeDeps = Pick<
  BackupDeps,
  'vsphere' | 'snapshots' | 'transports' | 'limits' | 'locks' | 'scripts' | 'marks' | 'clock' | 'log'
>

/** A VM that is this job's alone, with room on its datastores for a snapshot. */
export type LockedVm = { readonly lock: ClaimId; readonly config: VmConfig; readonly asBefore: VmBefore }

export type FrozenVm = Frozen & {
  readonly claim: ClaimId
  /** `Clock.monotonicMs` when the snapshot was there. */
  readonly sinceMs: number
  /** How long the guest was frozen at most, ms; undefined when it was not asked. */
  readonly frozenMs: number | undefined
  /** What can be read of it: one disk or more. */
  readonly disks: readonly DiskRef[]
  /** What its guest scripts left to be told. */
  readonly warnings: readonly string[]
  /** What those said; undefined when none ran. */
  readonly scripts: ScriptsSaid | undefined
}

/** Lock → description → room on its datastores. Errors: CONFLICT, USAGE, UNAVAILABLE, CANCELED. */
export async function lockVm(deps: FreezeDeps, claims: Claims, vm: VmRef, options: Abortable): Promise<LockedVm> {
  const lock = await claims.take('vmLock', { vm }, [], (claim) => deps.locks.acquire(vm, claim))
  let config = await describeVm(deps.vsphere, vm, options)
  refuseVm(config)
  if (await deps.limits.snapshot(storesOf(config), options)) {
    config = await describeVm(deps.vsphere, vm, options)
    refuseVm(config)
  }
  // Told apart after the removal: redo logs that were there before are not ours to merge.
  const { vmPathName, consolidationNeeded, disks } = config
  return { lock: lock.id, config, asBefore: { vmPathName, consolidationNeeded, links: linksOf(disks) } }
}

/** Pre-freeze script → quiesce → snapshot, thawed at once → post-thaw script → its disks. Errors: GUEST, USAGE when no disk of it can be read, those of vSphere. */
export async function freezeVm(
  deps: FreezeDeps,
  claims: Claims,
  locked: LockedVm,
  request: Pick<BackupRequest, 'quiesce' | 'freezeLimitMs' | 'windowsQuiesce' | 'guestScripts' | 'excludeDisks'>,
  options: Abortable,
): Promise<FrozenVm> {
  const { snapshots, clock, log, marks } = deps
  const { config: before, asBefore, lock } = locked
  const { vm } = before
  const warnings: string[] = []
  const around = aroundSnapshot({ ...deps, scripts: deps.scripts, claims }, before, request, lock, warnings, options)
  const quiescer = toolsQuiescer({ windows: windowsQuiesceFor(deps, before, request, warnings) })
  const reached = await takeConsistent(
    before,
    request.quiesce,
    (quiesce, within) =>
      around.run(async () => {
        const held = await claims.take('snapshot', { vm, quiesce: quiesce !== undefined, before: asBefore }, [lock], (claim) =>
          snapshots.create(vm, { claim, quiesce, within, description: marks.text('snapshot', claims.job, claim) }, options),
        )
        return { ...held.ref, claim: held.id, sinceMs: clock.monotonicMs() }
      }),
    { clock, log, quiescer, freezeLimitMs: request.freezeLimitMs, signal: options.signal },
  )
  const consistent = around.consistent(reached)
  const { claim, sinceMs, ...snapshot } = consistent.taken
  const config = await snapshots.configOf(snapshot, before, options)
  const { disks, notProtected } = disksToRead(deps.transports, before, config, request.excludeDisks)
  if (disks.length === 0) throw nothingToRead(vm, notProtected)
  const { level, reason, frozenMs } = consistent
  const scripts = around.said()
  const files = scripts === undefined ? [] : [scriptsFile(scripts)]
  return { config, snapshot, level, reason, notProtected, files, claim, sinceMs, frozenMs, disks, warnings, scripts }
}

/** What VSS is told, where the server takes it; it is quiesced as ever where not, and said so. */
function windowsQuiesceFor(
  { vsphere }: Pick<FreezeDeps, 'vsphere'>,
  { guestId, vm }: VmConfig,
  { windowsQuiesce, quiesce }: Pick<BackupRequest, 'windowsQuiesce' | 'quiesce'>,
  warnings: string[],
): WindowsQuiesce | undefined {
  if (windowsQuiesce === undefined || quiesce === 'none' || !/^win/i.test(guestId)) return undefined
  if (takesQuiesceSpec(vsphere)) return windowsQuiesce
  const { apiVersion } = vsphere.about
  warnings.push(`${vm.name} is quiesced without the settings for VSS: ${vsphere.host} speaks API ${apiVersion}, and they need 6.5.`)
  return undefined
}

/**
 * What was to be read has been read: neither a signal nor a release that fails may take it back. What could not be released stays among the claims,
 * which tell it when the job ends. So does a snapshot below a disk that a transport could not give back.
 */
export async function releaseSnapshot(claims: Claims, snapshot: ClaimId): Promise<void> {
  if (claims.held.some((held) => held.dependsOn.includes(snapshot))) return
  try {
    await claims.release(snapshot)
  } catch (error) {
    if (!(error instanceof LeftError)) throw error
  }
}
