/**
 * Rank 3. Shows the disks of a VM to other programs. `volumes/` says what is on them, by pure reading: partition tables, logical volumes, which file system,
 * what cannot be opened and why. Layouts: docs/formats/partition-tables.md, file-systems.md, lvm.md.
 */
export { readVolumes } from './volumes/read-volumes.ts'
export type { FileSystemType, OpenDisk, Volume, VolumeContent, VolumePartition } from './volumes/volume.ts'
