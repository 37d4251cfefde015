import type { Scenario } from '../scenario.ts'

/**
 * What the lab keeps of a VM: plain data, one JSON file per VM, written whole and atomically. Paths are datastore paths (`[ds] dir/file`).
 * Ids are those of the vCenter endpoint; the ESXi endpoint derives its own.
 */
export type VmRecord = {
  readonly id: string
  folder: string
  host: string
  /** A backup proxy: the lab shows what its guest sees of disks attached to it; `file` without loop devices. Absent: no proxy. */
  readonly proxy?: 'device' | 'file' | undefined
  /** Absent for templates. */
  pool: string | undefined
  /** `[ds] dir/name.vmx`. */
  path: string
  /** When the VM came to this inventory, ISO 8601. Absent for those of the scenario, whose configuration is as old as they are. */
  readonly createdAt?: string | undefined
  power: 'poweredOn' | 'poweredOff' | 'suspended'
  bootTime: string | undefined
  tools: 'running' | 'notRunning' | 'notInstalled'
  ip: string | undefined
  hostName: string | undefined
  template: boolean
  config: ConfigRecord
  snapshots: SnapshotRecord[]
  currentSnapshot: string | undefined
  nextSnapshotNumber: number
  /** A removal left redo logs that belong to no snapshot. */
  consolidationNeeded: boolean
  /** Tracking was asked for (`config.changeTracking`) and has taken hold at a stun. */
  trackingActive: boolean
  disabledMethods: { method: string; source: string; reason: string; session: string | undefined }[]
  customValues: Record<string, string>
  tags: string[]
  /** Records a second. */
  workload: number
  freezeLimitSeconds: number
  freezeMs: number
  /** Since when the guest is frozen, ISO 8601: on disk only while it is, so that a start after a crash knows of it. */
  frozenSince?: string | undefined
  /** The longest the guest ever was frozen, ms. */
  longestFreezeMs?: number | undefined
  digests: DigestRecord[]
  /** False until the VM's files were made: generated VMs get theirs at the first touch. */
  materialised: boolean
  /** Work that was under way: what a start after a crash must clean up. */
  pending: { kind: 'snapshot' | 'import' | 'attach'; links: string[] } | undefined
}

export type ConfigRecord = {
  name: string
  uuid: string
  instanceUuid: string
  changeVersion: number
  modified: string
  guestId: string
  hardware: number
  firmware: 'bios' | 'efi'
  cpus: number
  memoryMb: number
  annotation: string
  changeTracking: boolean
  managedBy: { extensionKey: string; type: string } | undefined
  extraConfig: Record<string, string>
  devices: DeviceRecord[]
}

export type ControllerType = 'lsilogic' | 'lsisas' | 'pvscsi' | 'buslogic' | 'sata' | 'ide' | 'nvme'

export type DeviceRecord =
  | { kind: 'controller'; key: number; controller: ControllerType; bus: number; sharedBus: string }
  | DiskRecord
  | { kind: 'nic'; key: number; nic: string; network: string; mac: string; unit: number; connected: boolean }
  | { kind: 'cdrom'; key: number; controllerKey: number; unit: number; iso: string | undefined }
  | { kind: 'usb'; key: number }
  | { kind: 'serial'; key: number; unit: number; file: string }
  | { kind: 'floppy'; key: number; unit: number }

export type DiskMode = 'persistent' | 'independent_persistent' | 'independent_nonpersistent' | 'nonpersistent' | 'undoable' | 'append'

export type DiskRecord = {
  kind: 'disk'
  key: number
  controllerKey: number
  unit: number
  /** Bytes. */
  capacity: number
  mode: DiskMode
  sharing: string
  thin: boolean
  eager: boolean
  uuid: string
  rdm: 'physical' | 'virtual' | undefined
  /** From the file in use down to the base. */
  chain: LinkRecord[]
  /** At this configuration's moment. Absent: not tracked. */
  changeId: string | undefined
  /** Takes part in the guest's numbered records. */
  records: boolean
  content: string
  /** Shown only when the disk is attached from another VM's files (hot-add): detaching must not touch the file. */
  foreign: boolean
  /** Of a nonpersistent one of another VM's: the redo log beside its source, `[ds] dir/x.vmdk.REDO_…`. */
  redo?: string | undefined
}

export type LinkRecord = { path: string; kind: 'flat' | 'sesparse' | 'cowd' | 'rdm'; contentId: string }

export type SnapshotRecord = {
  readonly id: string
  readonly number: number
  name: string
  description: string
  readonly createdAt: string
  quiesced: boolean
  readonly power: VmRecord['power']
  parent: string | undefined
  readonly config: ConfigRecord
}

export type DigestRecord = {
  snapshot: string
  name: string
  createdAt: string
  quiesced: boolean
  disks: { key: number; label: string; capacityBytes: number; sha256: string; kind: 'sha256' | 'content' }[]
}

/** The lab's own file: everything that is not a VM. */
export type LabRecord = {
  version: 1
  vcenterUuid: string
  esxiUuid: string
  scenario: Scenario
  nextId: number
  ports: { vcenter: number; esxi: number; nfc?: number | undefined; ssh?: Record<string, number> | undefined }
  customFields: { key: number; name: string; moType: string | undefined }[]
  folders: { id: string; name: string; parent: string }[]
  tagIds: Record<string, string>
}

export const isDisk = (device: DeviceRecord): device is DiskRecord => device.kind === 'disk'
export const disksOf = (config: ConfigRecord): DiskRecord[] => config.devices.filter(isDisk)

/** Left out of snapshots, as on a real host: independent disks and raw mappings in physical mode. */
export const isIndependent = (disk: DiskRecord): boolean => disk.mode.startsWith('independent') || disk.rdm === 'physical'

const PREFIX: Readonly<Record<ControllerType, string>> = {
  lsilogic: 'scsi',
  lsisas: 'scsi',
  pvscsi: 'scsi',
  buslogic: 'scsi',
  sata: 'sata',
  ide: 'ide',
  nvme: 'nvme',
}
export const controllerPrefix = (type: ControllerType): string => PREFIX[type]

type ControllerRecord = Extract<DeviceRecord, { kind: 'controller' }>

export const controllerOf = (config: ConfigRecord, disk: DiskRecord): ControllerRecord | undefined =>
  config.devices.find((device): device is ControllerRecord => device.kind === 'controller' && device.key === disk.controllerKey)

/** `scsi0:1`, as the VMX file and this lab's reports name a disk. */
export function diskLabel(config: ConfigRecord, disk: DiskRecord): string {
  const controller = controllerOf(config, disk)
  return controller !== undefined ? `${PREFIX[controller.controller]}${controller.bus}:${disk.unit}` : `disk${disk.key}`
}
