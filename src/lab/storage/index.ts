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
import type { Abortable, Range } from '../../core/index.ts'

/** Why storage refused; the model turns it into the vim25 fault of the same or the noted name. */
export type StorageFailure =
  | 'NoDiskSpace'
  | 'FileNotFound'
  | 'FileAlreadyExists'
  | 'FileLocked'
  /** `[ds] path` that cannot be parsed, or leaves the datastore: InvalidDatastorePath. */
  | 'InvalidDatastorePath'
  /** Not a disk, damaged, chain mismatch: FileFault / InvalidDiskFormat. */
  | 'InvalidDisk'
  /** Deeper than 32 links: TooManySnapshotLevels. */
  | 'TooManyLinks'
  /** Offset or length outside the disk, or not whole sectors: InvalidArgument(startOffset). */
  | 'InvalidOffset'
  /** vim.hostd.vmsvc.cbt.noTrack: tracking is off. */
  | 'NoTrack'
  /** vim.hostd.vmsvc.cbt.noEpoch: no current epoch for "*". */
  | 'NoEpoch'
  /** A changeId of another life of this disk, or later than the snapshot: InvalidArgument(changeId). */
  | 'UnknownChangeId'
  /** vim.hostd.vmsvc.cbt.cannotGetChanges: the tracking file is damaged. */
  | 'CannotGetChanges'
  /** An uploaded streamOptimized disk that is not whole or not one. */
  | 'BadStream'

export declare class LabStorageError extends Error {
  readonly failure: StorageFailure
  /** `[ds] path` or file name. */
  readonly subject: string
  constructor(failure: StorageFailure, message: string, subject: string, cause?: unknown)
}

export type DatastoreType = 'VMFS5' | 'VMFS6' | 'NFS'
export type DatastoreOptions = {
  readonly name: string
  readonly type: DatastoreType
  readonly directory: string
  /** Bytes; writes beyond it fail with NoDiskSpace. Default 1 TiB. */
  readonly capacityBytes?: number | undefined
}

/** A directory that plays a VMFS volume or an NFS export. The caller makes one per datastore and keeps it. */
export declare class Datastore {
  readonly name: string
  readonly type: DatastoreType
  readonly directory: string
  readonly capacityBytes: number
  /** Injected fault: every write that needs new space fails with NoDiskSpace. */
  full: boolean
  constructor(options: DatastoreOptions)
  /** Makes the directory. */
  create(): void
  /** Absolute path of `dir/x.vmdk`. InvalidDatastorePath for `..`, absolute, control characters, or a symbolic link on the way. */
  path(relative: string): string
  /** `[name] dir/x.vmdk`. */
  datastorePath(relative: string): string
  /** Bytes in use: allocated blocks of thin files and redo logs, whole capacity of thick disks. */
  used(): number
  free(): number
  /** Call after files were changed behind its back (an upload): usage is measured again at the next question. */
  changed(): void
  /** Throws NoDiskSpace when `bytes` more do not fit. Call before an upload; disks do it themselves. */
  charge(bytes: number): void
}

export type DatastorePath = { readonly datastore: string; readonly path: string }
/** `[ds] dir/x.vmdk` → parts; path is '' for `[ds]`. InvalidDatastorePath. */
export declare function parseDatastorePath(text: string): DatastorePath
export declare function formatDatastorePath(datastore: string, path: string): string

// ---- VM files

/** A VMX file: keys in order, compared without case, values unescaped. */
export declare class VmxFile {
  static parse(text: string): VmxFile
  get(key: string): string | undefined
  set(key: string, value: string): this
  delete(key: string): boolean
  entries(): IterableIterator<readonly [string, string]>
  /** With `.encoding` first; quotes, `|` and control characters as `|22`. */
  format(): string
  /** Disks and controllers named by `scsiX:Y.*`, `sataX:Y.*`, `nvmeX:Y.*`, `ideX:Y.*`. */
  disks(): readonly VmxDisk[]
}
export type VmxBus = 'scsi' | 'sata' | 'nvme' | 'ide'
export type VmxDisk = {
  readonly bus: VmxBus
  readonly busNumber: number
  readonly unitNumber: number
  /** As in the file: relative to the VM's directory, or `/vmfs/volumes/DS/dir/x.vmdk`. */
  readonly fileName: string
  /** `persistent` when absent. */
  readonly mode: string
  readonly ctkEnabled: boolean
  /** `scsi-hardDisk`, … */
  readonly deviceType: string
}
export type VmDescription = {
  readonly name: string
  readonly guestId: string
  readonly hardwareVersion: number
  readonly firmware: 'bios' | 'efi'
  readonly numCpu: number
  readonly memoryMb: number
  readonly annotation?: string | undefined
  /** 8-4-4-4-12 form. */
  readonly biosUuid: string
  readonly instanceUuid: string
  readonly controllers: readonly {
    readonly bus: VmxBus
    readonly busNumber: number
    readonly virtualDev: string
    readonly sharedBus?: string | undefined
  }[]
  readonly disks: readonly VmxDisk[]
  readonly ethernet: readonly { readonly virtualDev: string; readonly networkName: string; readonly macAddress: string }[]
  readonly ctkEnabled: boolean
  /** Further keys, written as they are. */
  readonly extra?: Readonly<Record<string, string>> | undefined
}
/** The VMX that ESXi would write for this VM. */
export declare function vmxOf(vm: VmDescription): VmxFile
/** Writes `dir/name.vmx` (atomically), and `.nvram`, `.vmsd`, `vmware.log` when they are not there. `name` is a safe file name. */
export declare function writeVmFiles(datastore: Datastore, directory: string, name: string, vmx: VmxFile): void

// ---- Disks

/** Contents of a new disk: nothing, a committed fixture with a real file system, or another image file. */
export type DiskContent = { readonly fixture: 'ext4' | 'ntfs' } | { readonly rawFile: string }
export type DiskSpec = {
  /** `dir/x.vmdk`; its directory must exist. */
  readonly path: string
  readonly capacityBytes: number
  readonly thin: boolean
  readonly adapterType: 'lsilogic' | 'buslogic' | 'ide'
  /** `60 00 C2 9a …` or 8-4-4-4-12; derived from random bytes when absent. */
  readonly uuid?: string | undefined
  readonly hardwareVersion?: number | undefined
  readonly content?: DiskContent | undefined
}
/** Source of random bytes for CIDs and uuids; the composition root's. Default node:crypto. */
export type Random = (size: number) => Uint8Array

export type DiskInfo = {
  readonly path: string
  readonly createType: string
  readonly capacityBytes: number
  readonly thin: boolean
  readonly adapterType: string
  /** 8 hex digits. */
  readonly cid: string
  readonly parentCid: string
  /** Datastore-relative path of the parent descriptor. */
  readonly parent?: string | undefined
  /** `60 00 C2 9a …-…`; of a redo log: its base's. */
  readonly uuid: string
  /** Files of this link besides the descriptor, datastore-relative; without the change tracking file. */
  readonly extents: readonly string[]
  readonly changeTrackPath?: string | undefined
  readonly backing: 'flat' | 'sparse' | 'seSparse' | 'rdmVirtual' | 'rdmPhysical'
}

/** Makes descriptor and flat extent. FileAlreadyExists, FileNotFound (directory), NoDiskSpace; leaves nothing behind on failure. */
export declare function createDisk(datastore: Datastore, spec: DiskSpec, random?: Random): DiskInfo
/** A raw device mapping: descriptor and mapping file; reading it is refused. */
export declare function createRdm(datastore: Datastore, spec: DiskSpec & { readonly physical: boolean }, random?: Random): DiskInfo
/** Reads one descriptor. FileNotFound, InvalidDisk. */
export declare function diskInfo(datastore: Datastore, path: string): DiskInfo
/** Descriptors from `path` down to the base; InvalidDisk when a link is missing, loops or its CID does not match. */
export declare function diskChain(datastore: Datastore, path: string): readonly DiskInfo[]
/** Removes descriptor, extents and (of a base) change tracking file of one link; missing files are no error. Children are not looked for. */
export declare function deleteDisk(datastore: Datastore, path: string): void
/** Renames a base disk with its files. */
export declare function moveDisk(from: Datastore, path: string, to: Datastore, target: string): Promise<DiskInfo>
/** Full copy of the view through `path` into a new flat disk (CopyVirtualDisk, clone). */
export declare function copyDisk(from: Datastore, path: string, to: Datastore, target: string, options?: CopyOptions): Promise<DiskInfo>
export type CopyOptions = Abortable & {
  readonly thin?: boolean | undefined
  readonly keepUuid?: boolean | undefined
  readonly random?: Random | undefined
}

/** A disk to look at: the view through one link of a chain. */
export interface DiskView extends Disposable {
  readonly size: number
  /** Fills `into`. InvalidOffset. */
  read(offset: number, into: Uint8Array): void
  /** Ordered areas that may hold something other than zeros; found without reading data. */
  allocated(range?: Range): Generator<Range>
}

/** The frozen view through link `path`, opened on its own file handles. Dispose it. */
export declare function openView(datastore: Datastore, path: string): DiskView

/** A virtual disk that is attached to a VM: the one writer of its chain. One per disk and process; disposed at power-off or removal. */
export declare class LabDisk implements DiskView, Disposable {
  /** Opens the chain under `path` for writing; finishes what an interrupted commit left. FileNotFound, InvalidDisk. */
  static open(datastore: Datastore, path: string, options?: LabDiskOptions): LabDisk
  readonly datastore: Datastore
  readonly size: number
  /** Datastore-relative path of the current link's descriptor. */
  get top(): string
  /** Descriptor paths from the current link to the base. */
  get chain(): readonly string[]
  get tracking(): ChangeTracking
  read(offset: number, into: Uint8Array): void
  allocated(range?: Range): Generator<Range>
  /** Whole sectors. NoDiskSpace leaves the disk as it was before the call, or with a prefix of it written. */
  write(offset: number, data: Uint8Array): void
  /** SCSI UNMAP: reads as zeros afterwards. */
  unmap(range: Range): void
  /** View through any link of the chain, sharing this disk's handles; valid until that link is committed or the disk disposed. */
  view(path: string): DiskView
  /**
   * Freezes the current link and puts a new redo log on top (COWD or SE-sparse by datastore type and size; an existing chain keeps its
   * kind). At one instant for writers. `path` default: `x-000001.vmdk` with the next free number. With tracking on, a new epoch begins.
   */
  addRedoLog(path?: string): RedoLogAdded
  /**
   * Copies link `path` into its parent in bounded steps while writes go on, then joins the chain without it and deletes its files.
   * `persist(newTop)` is awaited when the CURRENT link changes, before its files go: save the VMX there; a crash on either side is safe.
   * Restartable: calling it again after a kill or a failure goes on; a link no longer in the chain is only deleted. The parent must
   * have no other child (FileLocked otherwise).
   */
  commit(path: string, options?: CommitOptions): Promise<void>
  /** Revert: drops the current link (and its files unless another child needs it), and starts a new redo log over `frozenPath`, any link. Change tracking starts anew. */
  revert(frozenPath: string): RedoLogAdded
  /** Grows the base disk; refused (FileLocked) with redo logs. Change tracking starts anew. */
  grow(capacityBytes: number): void
  /** Files this disk holds: current link exclusive, parents shared. */
  locks(): readonly HeldFile[]
  [Symbol.dispose](): void
}
export type LabDiskOptions = { readonly random?: Random | undefined }
export type RedoLogAdded = {
  /** The new current link. */
  readonly top: string
  /** The link it froze: what a snapshot's backing names. */
  readonly frozen: string
  /** changeId of the frozen moment, when tracking is on. */
  readonly changeId?: string | undefined
}
export type CommitOptions = Abortable & {
  readonly persist?: ((newTop: string) => void | Promise<void>) | undefined
  /** 0–1, after each step. */
  readonly onProgress?: ((done: number) => void) | undefined
  /** Awaited between steps; a slow lab sleeps here. */
  readonly pause?: (() => Promise<void>) | undefined
}
/** Paths of descriptors in the same directory whose parent is `path`. */
export declare function childrenOf(datastore: Datastore, path: string): readonly string[]

export type HeldFile = { readonly path: string; readonly mode: 'exclusive' | 'shared' }
export type FileLock = HeldFile & { readonly datastore: string; readonly holder: string }
/** All files held by running VMs' disks. */
export declare function locksOf(holders: Iterable<{ readonly holder: string; readonly disks: Iterable<LabDisk> }>): readonly FileLock[]

// ---- Change tracking

export type ChangedAreas = {
  readonly startOffset: number
  /** Bytes covered by this answer, from startOffset. */
  readonly length: number
  readonly areas: readonly { readonly start: number; readonly length: number }[]
}
export type AreasRequest = {
  /** `"*"` or a changeId. */
  readonly changeId: string
  /** changeId of the snapshot asked about; absent = the disk as it is. */
  readonly until?: string | undefined
  readonly startOffset: number
  /** Default 2000. */
  readonly maxAreas?: number | undefined
  /** For `"*"`: the snapshot's view; default the disk itself. */
  readonly view?: DiskView | undefined
}
/** Change tracking of one disk, kept in `x-ctk.vmdk` beside its base (the lab's own layout). 64 KiB blocks. Never misses a change. */
export interface ChangeTracking {
  readonly enabled: boolean
  /** `52 de … 65 63/81`; undefined when off. */
  readonly changeId: string | undefined
  /** Makes the file, sets `changeTrackPath`; idempotent. */
  enable(): void
  disable(): void
  /** All is forgotten, a new uuid: host crash, move, revert. */
  reset(): void
  /** NoTrack, NoEpoch, UnknownChangeId, InvalidOffset, CannotGetChanges. */
  areas(request: AreasRequest): ChangedAreas
}

// ---- Digests and streams

export type ImageDigest = { readonly kind: 'sha256' | 'content'; readonly hex: string }
/**
 * Digest of a view. Up to 64 GiB `sha256` of the raw image; beyond it `content`: SHA-256 over (u64 LE offset, bytes) of each 1 MiB block
 * that is not all zeros, the last one clipped. Yields to other work between pieces.
 */
export declare function digestOf(
  view: DiskView,
  options?: Abortable & { readonly kind?: ImageDigest['kind'] | undefined },
): Promise<ImageDigest>
/** The same of a raw image file, for restored disks. */
export declare function digestOfFile(
  path: string,
  options?: Abortable & { readonly kind?: ImageDigest['kind'] | undefined },
): Promise<ImageDigest>
/** A raw image file as a view (fsck, digests). */
export declare function openRawView(path: string): DiskView
/** streamOptimized VMDK of a view, forward-only with footer; length not known before. */
export declare function exportStream(
  view: DiskView,
  options?: Abortable & { readonly name?: string | undefined; readonly uuid?: string | undefined },
): AsyncGenerator<Uint8Array>
/** Capacity of a streamOptimized upload is checked against the disk's; truncated or malformed input is BadStream. Returns bytes of data written. */
export declare function importStream(source: AsyncIterable<Uint8Array>, disk: LabDisk, options?: Abortable): Promise<number>
