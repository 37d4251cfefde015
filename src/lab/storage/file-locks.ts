import type { HeldFile, LabDisk } from './lab-disk.ts'

export type FileLock = HeldFile & { readonly datastore: string; readonly holder: string }

/** All files held by running VMs' disks: current links exclusive, parents shared. */
export function locksOf(holders: Iterable<{ readonly holder: string; readonly disks: Iterable<LabDisk> }>): readonly FileLock[] {
  const locks: FileLock[] = []
  for (const { holder, disks } of holders) {
    for (const disk of disks) for (const held of disk.locks()) locks.push({ ...held, datastore: disk.datastore.name, holder })
  }
  return locks
}
