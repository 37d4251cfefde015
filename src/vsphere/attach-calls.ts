import type { DeviceRef, DiskRef, MoRef } from '../core/index.ts'
import { parseDevices, parseDisks } from './device.ts'
import { decodeName } from './inventory-tree.ts'
import { retrieveOne } from './property-collector.ts'
import { reconfigureVm } from './snapshot-calls.ts'
import type { TaskOptions } from './task.ts'
import { anyValue, data, typed, type VimData } from './vim-data.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** What a VM is made of now, as far as attaching disks to it needs it. */
export type VmHardware = {
  readonly name: string
  readonly instanceUuid: string
  /** config.uuid. */
  readonly biosUuid: string
  /** `[ds] dir/x.vmx` */
  readonly vmPathName: string
  /** Sent back with a change, which the server then refuses (ConcurrentAccess) when the VM was changed meanwhile. */
  readonly changeVersion: string | undefined
  readonly disks: readonly DiskRef[]
  /** Controllers and every other device; disks too. */
  readonly devices: readonly DeviceRef[]
  readonly extraConfig: ReadonlyMap<string, string>
}

/** Where a disk goes: a free unit of a controller, or unit 0 of a new ParaVirtualSCSIController on a free bus. */
export type DiskSlot =
  | { readonly controllerKey: number; readonly unit: number; readonly newBus?: undefined }
  | { readonly newBus: number; readonly unit: 0 }

/** An entry of a VM's extraConfig. */
export type ExtraEntry = { readonly key: string; readonly value: string }

const PATHS = [
  'name',
  'config.instanceUuid',
  'config.uuid',
  'config.changeVersion',
  'config.files.vmPathName',
  'config.hardware.device',
  'config.extraConfig',
]

/** Temporary keys of new devices inside one change: negative, as the server gives the real ones. */
const NEW_CONTROLLER = -101
const NEW_DISK = -201

/** Errors: NOT_FOUND when the VM is gone. */
export async function vmHardware(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<VmHardware> {
  const { props } = await retrieveOne(vsphere, vm, PATHS, options)
  const devices = props.get('config.hardware.device')?.items() ?? []
  return {
    name: decodeName(props.get('name')?.text ?? vm.value),
    instanceUuid: props.get('config.instanceUuid')?.text ?? '',
    biosUuid: props.get('config.uuid')?.text ?? '',
    vmPathName: props.get('config.files.vmPathName')?.text ?? '',
    changeVersion: props.get('config.changeVersion')?.text,
    disks: parseDisks(devices),
    devices: parseDevices(devices),
    extraConfig: new Map(
      (props.get('config.extraConfig')?.items() ?? []).map((option) => [option.string('key') ?? '', option.string('value') ?? '']),
    ),
  }
}

/**
 * Attaches an existing disk by its file, and writes `entry` in the same change. There is no fileOperation: with one the server would make or
 * delete the file. Not idempotent. CONFLICT (FileLocked, TaskInProgress, ConcurrentAccess), NOT_FOUND (file), CONFIG (slot).
 */
export function attachDisk(
  vsphere: Vsphere,
  vm: MoRef,
  request: {
    readonly changeVersion: string | undefined
    readonly slot: DiskSlot
    readonly fileName: string
    readonly mode: 'independent_nonpersistent' | 'persistent'
    /** Bytes. */
    readonly capacityBytes: number
    readonly entry: ExtraEntry
  },
  options?: TaskOptions,
): Promise<void> {
  const { slot, capacityBytes } = request
  const disk = typed('VirtualDisk', {
    key: NEW_DISK,
    backing: typed('VirtualDiskFlatVer2BackingInfo', { fileName: request.fileName, diskMode: request.mode }),
    controllerKey: slot.newBus === undefined ? slot.controllerKey : NEW_CONTROLLER,
    unitNumber: slot.unit,
    capacityInKB: Math.floor(capacityBytes / 1024),
  })
  const controller =
    slot.newBus === undefined
      ? []
      : [typed('ParaVirtualSCSIController', { key: NEW_CONTROLLER, busNumber: slot.newBus, hotAddRemove: true, sharedBus: 'noSharing' })]
  const spec = data({
    changeVersion: request.changeVersion,
    deviceChange: [...controller, disk].map((device) => data({ operation: 'add', device })),
    extraConfig: option(request.entry),
  })
  return reconfigureVm(vsphere, vm, spec, options)
}

/**
 * Detaches a disk and leaves its files alone (no fileOperation: `destroy` would delete them); strikes entries of extraConfig in the same change.
 * An abort leaves the task to run. Neither disk nor keys = nothing is called.
 */
export async function detachDisk(
  vsphere: Vsphere,
  vm: MoRef,
  request: { readonly changeVersion: string | undefined; readonly disk: DiskRef | undefined; readonly keys: readonly string[] },
  options?: TaskOptions,
): Promise<void> {
  const { changeVersion, disk, keys } = request
  if (disk === undefined && keys.length === 0) return
  const device =
    disk === undefined
      ? undefined
      : typed('VirtualDisk', {
          key: disk.key,
          backing: typed('VirtualDiskFlatVer2BackingInfo', { fileName: disk.fileName, diskMode: disk.diskMode }),
          capacityInKB: Math.floor(disk.capacityBytes / 1024),
        })
  const spec = data({
    changeVersion,
    deviceChange: device === undefined ? [] : [data({ operation: 'remove', device })],
    extraConfig: keys.map((key) => option({ key, value: '' })),
  })
  await reconfigureVm(vsphere, vm, spec, { ...options, leave: true })
}

const option = ({ key, value }: ExtraEntry): VimData => typed('OptionValue', { key, value: anyValue('xsd:string', value) })
