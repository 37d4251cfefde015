import type { Verdict } from '../core/index.ts'
import type { TargetDisk } from './transport.ts'
import { hasFile } from './verify-disk.ts'

/**
 * Whether a disk may be written from outside, from what vSphere says of it and its VM alone: a running VM writes to it itself, and what stands on a
 * disk (a snapshot's redo log) is worth nothing once the disk below it changes.
 */
export function canBeWritten({ config, disk }: TargetDisk): Verdict {
  const { name } = config.vm
  if (config.powerState !== 'poweredOff')
    return { ok: false, reason: `${name} is not powered off, and only disks of a VM that is off are written` }
  if (config.snapshotCount > 0 || disk.chain.length > 1)
    return { ok: false, reason: `${name} has snapshots, and a disk below a snapshot is not written` }
  return hasFile(disk)
}
