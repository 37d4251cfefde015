/**
 * Storage of the lab: datastores as directories of real files, and virtual disks in VMware's own formats.
 *
 * Everything a host keeps on a datastore is here: VMX, descriptors, `-flat.vmdk` extents (thin = sparse file), COWD and SE-sparse redo
 * logs that the guest writes and a removal commits, the lab's own change tracking files, streamOptimized export and import.
 * An implementation of its own, sharing no code with the agent's readers; qemu-img judges both.
 *
 * A kill of the lab's process at any moment leaves every chain readable with all writes that had returned (not: a power failure of the
 * machine, nothing is fsynced). I/O on an open disk is synchronous inside and short, so one call is never seen half done by another.
 * All offsets and lengths are bytes; guest I/O is in whole sectors of 512. Every expected failure is a `LabStorageError`.
 */
export { type AreasRequest, type ChangedAreas, type ChangeTracking } from './change-tracking.ts'
export type { CommitOptions } from './commit.ts'
export { Datastore, type DatastoreOptions, type DatastoreType } from './datastore.ts'
export { besidePath, type DatastorePath, formatDatastorePath, parseDatastorePath } from './datastore-path.ts'
export { readDescriptor } from './descriptor.ts'
export { digestOf, digestOfFile, type DigestOptions, type ImageDigest } from './digest.ts'
export { type CopyOptions, copyDisk, createDisk, createRdm, deleteDisk, type DiskContent, type DiskSpec, moveDisk } from './disk-files.ts'
export { childrenOf, diskChain, type DiskInfo, diskInfo, isDescriptorName, MAX_LINKS } from './disk-info.ts'
export type { Random } from './disk-uuid.ts'
export { type DiskView, openRawView, openView } from './disk-view.ts'
export { type FileLock, locksOf } from './file-locks.ts'
export { packFixture } from './fixture.ts'
export { type HeldFile, LabDisk, type LabDiskOptions, type RedoLogAdded } from './lab-disk.ts'
export { LabStorageError, type StorageFailure } from './storage-error.ts'
export { type ExportOptions, exportStream } from './stream-export.ts'
export { importStream } from './stream-import.ts'
export { type VmDescription, vmxOf, writeVmFiles } from './vm-files.ts'
export { type VmxBus, type VmxDisk, VmxFile } from './vmx-file.ts'
