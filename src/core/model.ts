import type { PointId, RunId } from './ids.ts'

/**
 * Shared values of the trade: plain readonly data, no methods, no I/O. VMware's own words unaltered.
 * What siblings of equal rank exchange goes through here.
 */

/** A managed object reference: opaque id and the type it was given with. */
export type MoRef = { readonly type: string; readonly value: string }

/** A VM as selection finds it. `instanceUuid` with `vcenterUuid` identifies it for ever; the moref only until it is re-registered. */
export type VmRef = {
  readonly moref: string
  readonly name: string
  /** config.instanceUuid, unique inside one vCenter. */
  readonly instanceUuid: string
  /** config.uuid (BIOS); clones and restores repeat it. */
  readonly biosUuid: string
  /** about.instanceUuid of the endpoint (on a standalone ESXi the host's own). */
  readonly vcenterUuid: string
  /** Inventory path `/DC/vm/folder/name`; `/` and `%` inside names written %2f and %25. */
  readonly path: string
}

export type PowerState = 'poweredOn' | 'poweredOff' | 'suspended'

export type DatastoreRef = {
  readonly moref: string
  readonly name: string
  /** summary.type: VMFS, NFS, NFS41, vsan, VVOL, … */
  readonly type: string
  /** summary.url, `ds:///vmfs/volumes/UUID/`. */
  readonly url: string
  readonly capacityBytes: number
  readonly freeBytes: number
  readonly accessible: boolean
  /** NasDatastoreInfo.nas, when it is an NFS export; `remoteHosts`: all servers of an NFS41 one. */
  readonly nas?:
    | { readonly remoteHost: string; readonly remotePath: string; readonly remoteHosts?: readonly string[] | undefined }
    | undefined
  /** VmfsDatastoreInfo.vmfs, when it is a VMFS volume. */
  readonly vmfs?: { readonly uuid: string; readonly extents: readonly string[] } | undefined
}

/** How a disk is backed; decides whether it can be in a snapshot. */
export type DiskBacking = 'flat' | 'seSparse' | 'sparse' | 'rdmVirtual' | 'rdmPhysical' | 'raw' | 'unknown'

/** A virtual disk as the VM's or a snapshot's config.hardware.device shows it. */
export type DiskRef = {
  /** Device key: stable for the life of the disk in this VM. Always read, never computed. */
  readonly key: number
  /** `scsi0:1`, from the controller's class, bus number and unit. */
  readonly label: string
  readonly capacityBytes: number
  readonly backing: DiskBacking
  readonly diskMode: string
  /** `[datastore] dir/name.vmdk` of this config's own link. In a snapshot's config: the frozen file. */
  readonly fileName: string
  /** Datastore paths from `fileName` down to the base disk, as the backings' `parent` links name them. */
  readonly chain: readonly string[]
  readonly uuid?: string | undefined
  readonly changeId?: string | undefined
  readonly thin: boolean
  readonly sharing?: string | undefined
  /** `sharedBus` of its controller, when that shares it with other VMs. */
  readonly sharedBus?: string | undefined
}

/** A disk, or the whole VM, that a restore point does not hold, and why. Shown wherever the point is. */
export type NotProtected = {
  readonly disk: string
  readonly reason: string
  /** The user asked for it to be left out; anything else that is missing keeps a run from being green. */
  readonly excluded?: boolean | undefined
}

/** Any device of the VM as far as a restore needs it. */
export type DeviceRef = {
  readonly key: number
  /** vSphere class: VirtualLsiLogicController, VirtualVmxnet3, VirtualCdrom, … */
  readonly type: string
  readonly label: string
  readonly controllerKey?: number | undefined
  readonly unitNumber?: number | undefined
  readonly busNumber?: number | undefined
  /** Network name for adapters, file for CD-ROM, as text for lists. */
  readonly summary?: string | undefined
  readonly macAddress?: string | undefined
  readonly network?: string | undefined
  readonly sharedBus?: string | undefined
}

/** What is known of a VM, as of now or as of a snapshot. */
export type VmConfig = {
  readonly vm: VmRef
  readonly powerState: PowerState
  readonly connectionState: string
  readonly isTemplate: boolean
  readonly guestId: string
  readonly guestFullName: string
  readonly hardwareVersion: string
  readonly firmware: string
  readonly numCpu: number
  readonly memoryMb: number
  readonly annotation: string
  /** `[ds] dir/x.vmx`. */
  readonly vmPathName: string
  readonly changeTrackingSupported: boolean
  readonly changeTrackingEnabled: boolean
  readonly toolsRunning: boolean
  readonly consolidationNeeded: boolean
  /** Number of snapshots in the VM's tree, ours and others'. */
  readonly snapshotCount: number
  readonly disks: readonly DiskRef[]
  readonly devices: readonly DeviceRef[]
  readonly extraConfig: Readonly<Record<string, string>>
  readonly host: { readonly moref: string; readonly name: string }
  readonly datastores: readonly DatastoreRef[]
  /** config.keyId set: the VM is encrypted. */
  readonly encrypted: boolean
}

/** What is known of a VM before its snapshot is taken; tells afterwards what of it is ours. */
export type VmBefore = {
  /** `[ds] dir/x.vmx`: where its files are when it is registered nowhere any more. */
  readonly vmPathName: string
  /** It needed consolidation already: somebody else's redo logs, which are left to them. */
  readonly consolidationNeeded: boolean
  /** Links of the chains of all its disks, the base disks included. */
  readonly links: number
}

/** A snapshot of ours, with the claim in its name, so that recovery finds it; or one that its user wants removed. */
export type SnapshotRef = {
  readonly vm: VmRef
  readonly moref: string
  readonly name: string
  readonly createdAt: string
  /** `quiesced` of the snapshot tree: what was really reached. */
  readonly quiesced: boolean
  /** A user's: its name proves nothing, since others may bear it, so it is found by reference and time of creation alone. */
  readonly anyName?: true | undefined
}

/** How the frozen disks relate to what the guest had in memory. */
export type ConsistencyLevel = 'crash' | 'filesystem' | 'application'
export type QuiescePolicy = 'require' | 'try' | 'none'
export type BackupMode = 'full' | 'incremental'
export type TransportName = 'san' | 'hotadd' | 'nbdssl' | 'nbd' | 'https' | 'lease' | 'ssh' | 'vddk'

/**
 * What selected the blocks of a disk that were transferred: change tracking's changed areas, everything that is allocated (a full read), or the digests of
 * its blocks compared with those of the last point.
 */
export type SelectedBy = 'changedAreas' | 'allocated' | 'digests'

/** One disk inside a restore point. */
export type DiskFacts = {
  readonly key: number
  readonly label: string
  readonly capacityBytes: number
  readonly fileName: string
  readonly uuid?: string | undefined
  /** From the snapshot's config: the base of the next incremental. Absent: the next run reads this disk in full. */
  readonly changeId?: string | undefined
  readonly thin: boolean
  readonly mode: BackupMode
  /** Why this disk was read in full although an incremental was asked for, or what made it incremental. */
  readonly modeReason: string
  /** Absent in points of earlier versions, which never compared digests. */
  readonly selectedBy?: SelectedBy | undefined
  /** Bytes that were hashed where the disk is, and did not travel for that. Only where digests were compared. */
  readonly digestedBytes?: number | undefined
  readonly transport: TransportName
  readonly transportReason: string
  /** Every transport that was refused or failed before the one used. */
  readonly refused: readonly { readonly transport: TransportName; readonly reason: string }[]
  /** How often the transport broke in mid-read and was opened again; absent = never. */
  readonly resumed?: number | undefined
  /** How long reading and storing took, ms. */
  readonly readMs?: number | undefined
  /** Bytes in the areas to transfer (allocated on a full, changed on an incremental). */
  readonly changedBytes: number
  /** Bytes read from the source; they came over its transport. */
  readonly readBytes: number
  /** Bytes added to the repository for this disk, compressed and sealed. */
  readonly storedBytes: number
  /** Lower-case hex SHA-256 over the whole disk image, when the provider computed one. */
  readonly sha256?: string | undefined
}

/** Where a disk's image lies inside a restore point; filled in by the provider (docs/formats/restore-point.md). */
export type DiskImage = {
  readonly key: number
  /** File name of the VMDK descriptor. */
  readonly descriptor: string
  readonly capacityBytes: number
  /** restic: bytes of every blob but an extent's last. */
  readonly blockSize?: number | undefined
  /** Present when the image is several extents: bytes of each but the last. */
  readonly extentBytes?: number | undefined
  /** Directory export: the VMDK format. */
  readonly format?: string | undefined
}

/** Version of the manifest's shape; readers refuse a higher one. */
export const MANIFEST_VERSION = 1

/** `manifest.json` of a restore point: everything a restore needs, and what is not in it. */
export type Manifest = {
  readonly manifestVersion: number
  readonly product: string
  readonly run: RunId
  /** ISO 8601, when the snapshot was taken: the moment the image shows. */
  readonly time: string
  readonly vm: VmRef
  readonly config: VmConfig
  readonly mode: BackupMode
  readonly parent?: PointId | undefined
  readonly consistency: ConsistencyLevel
  readonly consistencyReason: string
  readonly disks: readonly DiskFacts[]
  readonly images?: readonly DiskImage[] | undefined
  readonly notProtected: readonly NotProtected[]
  /** Files beside the disks in the point: `.vmx`, `.nvram`, … */
  readonly files: readonly { readonly name: string; readonly size: number }[]
}

/** A restore point as listings show it. */
export type PointSummary = {
  readonly id: PointId
  readonly repository: string
  readonly time: string
  readonly vmName: string
  readonly instanceUuid: string
  readonly vcenterUuid: string
  readonly mode: BackupMode
  readonly run: RunId
  readonly consistency: ConsistencyLevel
  readonly totalBytes: number
  readonly readBytes: number
  readonly storedBytes: number
  readonly notProtected: number
  /** Labels of what `notProtected` counts. Only in listings of the repository itself, as the two below. */
  readonly missingDisks?: readonly string[] | undefined
  /** The point without which this one cannot be read (archives); absent where every point is a complete image. */
  readonly needs?: PointId | undefined
  /** Tags that somebody gave the point, ours left out. */
  readonly tags?: readonly string[] | undefined
}
