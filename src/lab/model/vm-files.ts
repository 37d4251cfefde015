import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import {
  createDisk,
  createRdm,
  LabStorageError,
  type VmDescription,
  type VmxBus,
  type VmxDisk,
  vmxOf,
  writeVmFiles,
} from '../storage/index.ts'
import { baseName, directoryOf, parseDatastorePath } from './datastore-path.ts'
import { faulting } from './files.ts'
import type { Machine } from './machine.ts'
import type { Model } from './model.ts'
import { type ConfigRecord, controllerPrefix, type ControllerType, type DiskRecord, disksOf, isDisk, type VmRecord } from './record.ts'

const VIRTUAL_DEV: Readonly<Record<ControllerType, string>> = {
  lsilogic: 'lsilogic',
  lsisas: 'lsisas1068',
  pvscsi: 'pvscsi',
  buslogic: 'buslogic',
  sata: 'ahci',
  ide: 'ide',
  nvme: 'nvme',
}

/** Makes one new disk's files. Faults FileAlreadyExists, NoDiskSpace. */
export function makeDisk(model: Model, vm: VmRecord, disk: DiskRecord): void {
  const base = disk.chain.at(-1)
  if (base === undefined) return
  const at = model.files.at(base.path)
  const controller = vm.config.devices.find((device) => device.kind === 'controller' && device.key === disk.controllerKey)
  const type = controller?.kind === 'controller' ? controller.controller : 'lsilogic'
  const spec = {
    path: at.path,
    capacityBytes: disk.capacity,
    thin: disk.thin,
    adapterType: type === 'ide' ? ('ide' as const) : type === 'buslogic' ? ('buslogic' as const) : ('lsilogic' as const),
    uuid: disk.uuid,
    hardwareVersion: vm.config.hardware,
    ...(disk.content.startsWith('fixture:') ? { content: { fixture: fixtureOf(disk.content) } } : {}),
  }
  faulting(base.path, () => (disk.rdm === 'physical' ? createRdm(at.store, { ...spec, physical: true }) : createDisk(at.store, spec)))
}

function fixtureOf(content: string): 'ext4' | 'ntfs' {
  const name = content.slice('fixture:'.length)
  if (name === 'ext4' || name === 'ntfs') return name
  throw new LabStorageError('FileNotFound', `There is no fixture ${name}.`, name)
}

/** Tracking takes hold: at a stun, or at once in a VM that is off. */
export function enableTracking(machine: Machine, vm: VmRecord): void {
  vm.trackingActive = vm.config.changeTracking
  for (const disk of disksOf(vm.config)) {
    const open = machine.disk(disk.key)
    if (open === undefined || !canTrack(disk)) continue
    if (vm.trackingActive && !open.tracking.enabled) open.tracking.enable()
    if (!vm.trackingActive && open.tracking.enabled) open.tracking.disable()
    machine.takeChain(disk)
  }
}

const canTrack = (disk: DiskRecord): boolean =>
  !disk.mode.startsWith('independent') && disk.rdm !== 'physical' && disk.sharing === 'sharingNone' && !disk.foreign

/** Writes the VMX as the record stands. Called after every change of the configuration. */
export function writeVmx(model: Model, vm: VmRecord): void {
  const at = model.files.at(directoryOf(vm.path))
  const stem = basename(baseName(vm.path), '.vmx')
  mkdirSync(model.files.local(directoryOf(vm.path)), { recursive: true })
  faulting(vm.path, () => writeVmFiles(at.store, at.path, stem, vmxOf(description(vm))))
  const swap = `${model.files.local(directoryOf(vm.path))}/${stem}.vswp`
  if (vm.power === 'poweredOn') writeFileSync(swap, '')
  else rmSync(swap, { force: true })
}

function description(vm: VmRecord): VmDescription {
  const { config } = vm
  return {
    name: config.name,
    guestId: config.guestId,
    hardwareVersion: config.hardware,
    firmware: config.firmware,
    numCpu: config.cpus,
    memoryMb: config.memoryMb,
    annotation: config.annotation === '' ? undefined : config.annotation,
    biosUuid: config.uuid,
    instanceUuid: config.instanceUuid,
    controllers: config.devices.flatMap((device) =>
      device.kind === 'controller'
        ? [
            {
              bus: busOf(device.controller),
              busNumber: device.bus,
              virtualDev: VIRTUAL_DEV[device.controller],
              sharedBus: device.sharedBus === 'noSharing' ? undefined : device.sharedBus,
            },
          ]
        : [],
    ),
    disks: config.devices.filter(isDisk).flatMap((disk) => vmxDisk(vm, config, disk)),
    ethernet: config.devices.flatMap((device) =>
      device.kind === 'nic' ? [{ virtualDev: device.nic, networkName: device.network, macAddress: device.mac }] : [],
    ),
    ctkEnabled: config.changeTracking,
    extra: config.extraConfig,
  }
}

const busOf = (type: ControllerType): VmxBus => {
  const prefix = controllerPrefix(type)
  return prefix === 'sata' || prefix === 'nvme' || prefix === 'ide' ? prefix : 'scsi'
}

function vmxDisk(vm: VmRecord, config: ConfigRecord, disk: DiskRecord): VmxDisk[] {
  const controller = config.devices.find((device) => device.kind === 'controller' && device.key === disk.controllerKey)
  const top = disk.chain[0]
  if (controller?.kind !== 'controller' || top === undefined) return []
  const same = directoryOf(top.path) === directoryOf(vm.path)
  const at = parseDatastorePath(top.path)
  return [
    {
      bus: busOf(controller.controller),
      busNumber: controller.bus,
      unitNumber: disk.unit,
      fileName: same ? baseName(top.path) : `/vmfs/volumes/${at.datastore}/${at.path}`,
      mode: disk.mode.replace('_', '-'),
      ctkEnabled: disk.changeId !== undefined,
      deviceType: 'scsi-hardDisk',
    },
  ]
}
