/**
 * Rank 3. Shows the disks of a VM to other programs. `volumes/` says what is on them, by pure reading: partition tables, logical volumes, which file system,
 * what cannot be opened and why, and where they belong in a mount directory. Layouts: docs/formats/partition-tables.md, file-systems.md, lvm.md,
 * registry-hive.md.
 * `present/` shows disks as raw files and mounts volumes, by root, through FUSE, loop devices and the kernel's file systems (docs/formats/fuse.md,
 * docs/adr/0011-fuse.md).
 */
export { type Layout, layOut, type Place, type ReadGuestFile } from './volumes/lay-out.ts'
export { readVolumes } from './volumes/read-volumes.ts'
export type { FileSystemType, OpenDisk, Volume, VolumeContent, VolumePartition } from './volumes/volume.ts'
export { type MountAbility, mountAbilities } from './present/abilities.ts'
export { isRealDirectory } from './present/mount-point.ts'
export { type ImageToPresent, type PresentedImages, presentImages } from './present/present-images.ts'
export { presentReleasers } from './present/present-releasers.ts'
export { type PresentedVolumes, presentVolumes, type VolumePlaces, type VolumeToPresent } from './present/present-volumes.ts'
export { readMounted } from './present/read-mounted.ts'
export type { PresentDeps } from './present/served-mount.ts'
