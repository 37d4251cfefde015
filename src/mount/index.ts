/**
 * Rank 3. Shows the disks of a VM to other programs. `volumes/` says what is on them, by pure reading: partition tables, logical volumes, which file system,
 * what cannot be opened and why, and where they belong in a mount directory. Layouts: docs/formats/partition-tables.md, file-systems.md, lvm.md,
 * registry-hive.md.
 */
export { type Layout, layOut, type Place, type ReadGuestFile } from './volumes/lay-out.ts'
export { readVolumes } from './volumes/read-volumes.ts'
export type { FileSystemType, OpenDisk, Volume, VolumeContent, VolumePartition } from './volumes/volume.ts'
