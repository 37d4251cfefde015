import type { VmConfig } from '../core/index.ts'
import type { Reached } from './quiescer.ts'

/** Linux distributions as guestId begins (`rhel8_64Guest`, `ubuntu64Guest`). */
const LINUX =
  /^(rhel|centos|oracleLinux|rockylinux|almalinux|fedora|ubuntu|debian|sles|sled|suse|opensuse|asianux|amazonlinux|coreos|flatcar|photon|vmwarePhoton|crxPod|crxSys|mandrake|mandriva|mandrakelinux|redhat|redhat.*|turboLinux|nld9|oes|sjds|kylin|bclinux|.*[lL]inux)/

/** Windows clients and early releases, where Tools reach the file systems only. */
const WINDOWS_FILESYSTEM =
  /^(win31|win95|win98|winMe|winNT|win2000|winXP|winVista|windows7(_64)?Guest|windows8(_64)?Guest|windows9(_64)?Guest|windows1\d(_64)?Guest)/i

/**
 * What VMware Tools reach in a guest when the snapshot is marked quiesced. Windows servers are quiesced through VSS, applications included,
 * only with `disk.EnableUUID`, SCSI disks and no encryption; Linux has its file systems frozen; elsewhere Tools freeze nothing.
 */
export function guestLevel(config: VmConfig): Reached {
  const { guestId } = config
  if (/^win/i.test(guestId)) return windowsLevel(config)
  if (LINUX.test(guestId)) return { level: 'filesystem', reason: 'VMware Tools froze the file systems of the Linux guest' }
  return { level: 'crash', reason: `VMware Tools have no way to freeze this guest (${guestId === '' ? 'unknown' : guestId})` }
}

function windowsLevel(config: VmConfig): Reached {
  const filesystem = (why: string): Reached => ({
    level: 'filesystem',
    reason: `VMware Tools flushed the file systems of the Windows guest; ${why}`,
  })
  if (WINDOWS_FILESYSTEM.test(config.guestId)) return filesystem('this edition has no application level')
  if (config.encrypted) return filesystem('the VM is encrypted, which allows no application level')
  if (extra(config, 'disk.EnableUUID')?.toUpperCase() !== 'TRUE')
    return filesystem('disk.EnableUUID is not TRUE, so applications took no part')
  const other = config.disks.find(({ label }) => !label.startsWith('scsi'))
  if (other !== undefined) return filesystem(`the disk ${other.label} is not on SCSI, so applications took no part`)
  return { level: 'application', reason: 'VMware Tools quiesced the Windows guest and its applications through VSS' }
}

/** extraConfig keys are compared without regard to case, as vSphere does. */
const extra = (config: VmConfig, key: string): string | undefined =>
  Object.entries(config.extraConfig).find(([name]) => name.toLowerCase() === key.toLowerCase())?.[1]
