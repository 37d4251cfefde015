import { type Abortable, type DiskRef, isAgentError, toAgentError, type VmConfig } from '../core/index.ts'
import { parseDisks, retrieveOne, setChangeTracking, vmMoRef, type Vsphere } from '../vsphere/index.ts'

/** Whether the next incremental will have something to go by, and if not, why. */
export type TrackingState = { readonly active: boolean; readonly reason: string }

/**
 * Switches change tracking on where it is supported, allowed, and the VM has no snapshot (with one, it would miss what came before). It takes
 * hold at the next stun, which `cycle` must bring about: take a snapshot under a claim and remove it. Called once per VM and run, before the
 * backup's snapshot. Never throws for a refusal or a failed attempt: a backup without tracking is a full one. CANCELED passes.
 */
export async function ensureChangeTracking(
  vsphere: Vsphere,
  config: VmConfig,
  how: Abortable & { readonly allowed: boolean; readonly cycle: () => Promise<void> },
): Promise<TrackingState> {
  const now = trackingNow(config, how.allowed)
  if (now !== undefined) return now
  try {
    const options = { signal: how.signal, subject: config.vm.name }
    if (!config.changeTrackingEnabled) await setChangeTracking(vsphere, vmMoRef(config.vm), true, options)
    await how.cycle()
    const { props } = await retrieveOne(vsphere, vmMoRef(config.vm), ['config.hardware.device'], options)
    const devices = props.get('config.hardware.device')
    if (devices === undefined) return { active: false, reason: 'change tracking was switched on, but whether it took hold cannot be read' }
    const left = untracked(parseDisks(devices.items()))
    if (left.length > 0) return { active: false, reason: `change tracking was switched on but did not take hold on ${labels(left)}` }
    vsphere.log.info('change tracking switched on', { vm: config.vm.name })
    return { active: true, reason: 'change tracking was switched on by this run' }
  } catch (error) {
    if (isAgentError(error, 'CANCELED')) throw error
    return { active: false, reason: `change tracking could not be switched on: ${toAgentError(error).message.replace(/\.$/, '')}` }
  }
}

/** How change tracking of a VM stands, before anything is done about it; undefined: it is off and can be switched on. Pure. */
export function trackingNow(config: VmConfig, allowed: boolean): TrackingState | undefined {
  if (!config.changeTrackingSupported && !config.changeTrackingEnabled) {
    return { active: false, reason: `this VM does not support change tracking (hardware ${config.hardwareVersion})` }
  }
  if (config.changeTrackingEnabled && untracked(config.disks).length === 0) return { active: true, reason: 'change tracking is on' }
  if (!allowed) return { active: false, reason: 'change tracking is not on, and switching it on is not allowed' }
  return config.snapshotCount === 0
    ? undefined
    : { active: false, reason: `change tracking cannot be switched on while the VM has snapshots (${config.snapshotCount})` }
}

/** Disks that a snapshot holds and that carry no changeId. */
const untracked = (disks: readonly DiskRef[]): readonly DiskRef[] =>
  disks.filter(
    (disk) =>
      disk.changeId === undefined &&
      !disk.diskMode.startsWith('independent_') &&
      disk.backing !== 'rdmPhysical' &&
      disk.backing !== 'raw' &&
      disk.sharing !== 'sharingMultiWriter',
  )

const labels = (disks: readonly DiskRef[]): string => disks.map(({ label }) => label).join(', ')
