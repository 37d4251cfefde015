import { basename } from 'node:path'
import { diskInfo } from '../storage/index.ts'
import { invalidArgument, type LabObject, VimFault } from '../wire/index.ts'
import { flag, number, object, objects, options, text } from './arguments.ts'
import { baseName, directoryOf, parseDatastorePath, within } from './datastore-path.ts'
import { faulting } from './files.ts'
import { fileLocked, fileNotFound, invalidDeviceSpec } from './faults.ts'
import { diskKey } from './inventory-build.ts'
import type { Model } from './model.ts'
import { CONTROLLER_OF_TYPE, NIC_OF_TYPE } from './properties/device.ts'
import {
  type ConfigRecord,
  type ControllerType,
  type DeviceRecord,
  type DiskMode,
  type DiskRecord,
  disksOf,
  type LinkRecord,
  type VmRecord,
} from './record.ts'
import { enableTracking, makeDisk, writeVmx } from './vm-files.ts'
import { deleteLink } from './snapshot.ts'

/**
 * Applies a VirtualMachineConfigSpec. All is checked on a copy first and disks made are deleted again, so a fault leaves the VM as it was.
 */
export async function reconfigure(model: Model, vm: VmRecord, spec: LabObject): Promise<void> {
  const version = text(spec, 'changeVersion')
  if (version !== undefined && version !== `${vm.config.modified}/${vm.config.changeVersion}`) {
    throw new VimFault('ConcurrentAccess', {}, 'The VM was changed by someone else meanwhile.')
  }
  const machine = await model.machine(vm)
  const before = vm.config
  const next = structuredClone(before)
  const changes = new DeviceChanges(model, vm, next)
  applyPlain(next, spec)
  try {
    objects(spec, 'deviceChange').forEach((change, index) => changes.apply(change, index))
    const redoLogs = changes.attached.flatMap(({ redo }) => redo ?? [])
    if (redoLogs.length > 0) {
      vm.pending = { kind: 'attach', links: redoLogs }
      await model.world.keep(vm)
      for (const disk of changes.attached) await model.attached.prepare(vm, disk)
    }
    for (const disk of changes.detached) await model.attached.hide(vm, disk)
    await machine.use(async () => {
      vm.config = next
      vm.pending = pendingAfter(changes.detached)
      for (const key of changes.dropped) machine.drop(key)
      machine.refresh()
      for (const [disk, bytes] of changes.grown) {
        const open = machine.disk(disk.key)
        if (open !== undefined) faulting(disk.chain[0]?.path ?? '', () => open.grow(bytes))
        disk.capacity = bytes
      }
      const wanted = flag(spec, 'changeTrackingEnabled')
      if (wanted !== undefined) {
        if (wanted && next.hardware < 7)
          throw new VimFault('InvalidVmConfig', { property: 'changeTrackingEnabled' }, 'Change tracking needs virtual hardware 7.')
        next.changeTracking = wanted
      }
      // A running VM's tracking changes at its next stun; new disks of a VM that tracks join now.
      if (vm.power !== 'poweredOn' || (vm.trackingActive && next.changeTracking)) enableTracking(machine, vm)
      next.changeVersion = before.changeVersion + 1
      next.modified = model.world.now().toISOString()
      for (const path of changes.destroyed) deleteLink(model, path)
      writeVmx(model, vm)
      await model.world.keep(vm, 'config', 'name', 'summary', 'layoutEx', 'datastore', 'network', 'storage', 'guest')
    })
  } catch (error) {
    vm.config = before
    for (const path of changes.made) deleteLink(model, path)
    for (const { redo } of changes.attached) if (redo !== undefined) model.attached.discard(vm, redo)
    for (const disk of changes.detached) await model.attached.show(vm, disk)
    if (vm.pending?.kind === 'attach') {
      vm.pending = undefined
      await model.world.keep(vm)
    }
    machine.refresh()
    throw error
  }
  await settleAttached(model, vm, changes)
}

/** Redo logs of what was taken off, to be removed once that is written down. */
function pendingAfter(detached: readonly DiskRecord[]): VmRecord['pending'] {
  const links = detached.flatMap(({ redo }) => redo ?? [])
  return links.length === 0 ? undefined : { kind: 'attach', links }
}

/** What follows a change that is written down: redo logs that nothing stands on go, guests see what came. */
async function settleAttached(model: Model, vm: VmRecord, { attached, detached }: DeviceChanges): Promise<void> {
  for (const { redo } of detached) if (redo !== undefined) model.attached.discard(vm, redo)
  if (vm.pending !== undefined) {
    vm.pending = undefined
    await model.world.keep(vm)
  }
  for (const disk of attached) {
    const names = [...model.names(vm), disk.chain[0]?.path ?? '']
    const [rule] = model.rules.strike({ on: 'hotadd:attach', names }, 'hotadd')
    await model.attached.show(vm, disk, rule?.hotadd, rule?.value)
    if (rule?.hotadd === 'half') throw new VimFault('SystemError', { reason: 'half done' }, 'A general system error occurred.')
  }
}

function applyPlain(config: ConfigRecord, spec: LabObject): void {
  config.name = text(spec, 'name') ?? config.name
  config.uuid = text(spec, 'uuid') ?? config.uuid
  config.instanceUuid = text(spec, 'instanceUuid') ?? config.instanceUuid
  config.guestId = text(spec, 'guestId') ?? config.guestId
  config.annotation = text(spec, 'annotation') ?? config.annotation
  config.cpus = number(spec, 'numCPUs') ?? config.cpus
  config.memoryMb = number(spec, 'memoryMB') ?? config.memoryMb
  const firmware = text(spec, 'firmware')
  if (firmware !== undefined && firmware !== 'bios' && firmware !== 'efi') throw invalidArgument('spec.firmware')
  config.firmware = firmware ?? config.firmware
  const hardware = text(spec, 'version')
  if (hardware !== undefined) config.hardware = Number(/^vmx-(\d+)$/.exec(hardware)?.[1] ?? config.hardware)
  const managedBy = object(spec, 'managedBy')
  if (managedBy !== undefined)
    config.managedBy = { extensionKey: text(managedBy, 'extensionKey') ?? '', type: text(managedBy, 'type') ?? '' }
  for (const [key, value] of options(spec, 'extraConfig')) {
    if (value === '') delete config.extraConfig[key]
    else config.extraConfig[key] = value
    if (key === 'ctkEnabled') config.changeTracking = value.toUpperCase() === 'TRUE'
  }
}

/** Applies deviceChange entries to a configuration, remembering what to undo and what to do to the open disks. */
export class DeviceChanges {
  readonly made: string[] = []
  readonly destroyed: string[] = []
  readonly dropped: number[] = []
  /** Disks of other VMs that come and go. */
  readonly attached: DiskRecord[] = []
  readonly detached: DiskRecord[] = []
  readonly grown: [DiskRecord, number][] = []
  readonly #model: Model
  readonly #vm: VmRecord
  readonly #config: ConfigRecord
  readonly #provisional = new Map<number, number>()

  constructor(model: Model, vm: VmRecord, config: ConfigRecord) {
    this.#model = model
    this.#vm = vm
    this.#config = config
  }

  apply(change: LabObject, index: number): void {
    const device = object(change, 'device')
    if (device === undefined) throw invalidDeviceSpec(index)
    switch (text(change, 'operation')) {
      case 'add':
        this.#add(device, text(change, 'fileOperation'), index)
        return
      case 'remove':
        this.#remove(device, text(change, 'fileOperation'), index)
        return
      case 'edit':
      case undefined:
        this.#edit(device, index)
        return
      default:
        throw invalidDeviceSpec(index)
    }
  }

  #add(device: LabObject, fileOperation: string | undefined, index: number): void {
    const controller = CONTROLLER_OF_TYPE.get(device.$type)
    if (controller !== undefined) {
      this.#addController(device, controller)
      return
    }
    const nic = NIC_OF_TYPE.get(device.$type)
    if (nic !== undefined) {
      const count = this.#config.devices.filter((other) => other.kind === 'nic').length
      const key = this.#freeKey(4000)
      const mac = text(device, 'macAddress')
      this.#config.devices.push({
        kind: 'nic',
        key,
        nic,
        network: this.#networkName(device),
        mac: mac === undefined || mac === '' ? this.#model.world.seeded.mac(this.#config.instanceUuid, key) : mac,
        unit: 7 + count,
        connected: flag(object(device, 'connectable'), 'startConnected') ?? true,
      })
      return
    }
    switch (device.$type) {
      case 'VirtualDisk':
        this.#addDisk(device, fileOperation, index)
        return
      case 'VirtualCdrom':
        this.#config.devices.push({
          kind: 'cdrom',
          key: this.#freeKey(3002),
          controllerKey: number(device, 'controllerKey') ?? 201,
          unit: number(device, 'unitNumber') ?? 0,
          iso: text(object(device, 'backing'), 'fileName'),
        })
        return
      case 'VirtualUSBController':
      case 'VirtualUSBXHCIController':
        this.#config.devices.push({ kind: 'usb', key: this.#freeKey(7000) })
        return
      case 'VirtualSerialPort':
        this.#config.devices.push({
          kind: 'serial',
          key: this.#freeKey(9000),
          unit: 0,
          file: text(object(device, 'backing'), 'fileName') ?? '',
        })
        return
      case 'VirtualFloppy':
        this.#config.devices.push({ kind: 'floppy', key: this.#freeKey(8000), unit: 0 })
        return
      default:
        throw invalidDeviceSpec(index, `The lab has no device ${device.$type}.`)
    }
  }

  #addController(device: LabObject, controller: ControllerType): void {
    if (controller === 'nvme' && this.#config.hardware < 13)
      throw new VimFault('InvalidVmConfig', { property: 'hardware' }, 'An NVMe controller needs virtual hardware 13.')
    const bus = number(device, 'busNumber') ?? 0
    const first = controller === 'ide' ? 200 : controller === 'sata' ? 15_000 : controller === 'nvme' ? 31_000 : 1000
    let at = bus
    while (this.#config.devices.some((other) => other.key === first + at)) at++
    if (at > 3) throw new VimFault('TooManyDevices', {}, `The VM has no bus free for another ${device.$type}.`)
    const key = first + at
    this.#config.devices.push({ kind: 'controller', key, controller, bus: at, sharedBus: text(device, 'sharedBus') ?? 'noSharing' })
    const asked = number(device, 'key')
    if (asked !== undefined) this.#provisional.set(asked, key)
  }

  #addDisk(device: LabObject, fileOperation: string | undefined, index: number): void {
    const backing = object(device, 'backing')
    if (backing === undefined) throw invalidDeviceSpec(index)
    const asked = number(device, 'controllerKey') ?? 1000
    const controllerKey = this.#provisional.get(asked) ?? asked
    let controller = this.#config.devices.find((other) => other.kind === 'controller' && other.key === controllerKey)
    if (controller === undefined && (controllerKey === 200 || controllerKey === 201)) {
      controller = { kind: 'controller', key: controllerKey, controller: 'ide', bus: controllerKey - 200, sharedBus: 'noSharing' }
      this.#config.devices.push(controller)
    }
    if (controller?.kind !== 'controller') throw invalidDeviceSpec(index, `There is no controller with key ${controllerKey}.`)
    const unit = this.#freeUnit(controllerKey, number(device, 'unitNumber'), index)
    const rdm = backing.$type === 'VirtualDiskRawDiskMappingVer1BackingInfo'
    const disk: DiskRecord = {
      kind: 'disk',
      key: diskKey(controllerKey, controller.bus, unit),
      controllerKey,
      unit,
      capacity: number(device, 'capacityInBytes') ?? (number(device, 'capacityInKB') ?? 0) * 1024,
      mode: modeOf(text(backing, 'diskMode')),
      sharing: text(backing, 'sharing') ?? 'sharingNone',
      thin: flag(backing, 'thinProvisioned') ?? false,
      eager: flag(backing, 'eagerlyScrub') ?? false,
      uuid: text(backing, 'uuid') ?? this.#model.world.seeded.uuid('disk', this.#model.world.newId('')).replace(/^.{7}/, '6000C29'),
      rdm: rdm ? (text(backing, 'compatibilityMode') === 'physicalMode' ? 'physical' : 'virtual') : undefined,
      chain: [],
      changeId: undefined,
      records: true,
      content: 'empty',
      foreign: false,
    }
    const wanted = text(backing, 'fileName') ?? ''
    if (fileOperation === 'create' || fileOperation === 'replace') this.#createFile(disk, wanted, index)
    else this.#attachFile(disk, wanted)
    this.#config.devices.push(disk)
  }

  /** A new disk: `[ds]` and an empty name mean a name of the host's choice in the VM's directory. */
  #createFile(disk: DiskRecord, wanted: string, index: number): void {
    if (disk.capacity <= 0 || disk.capacity % 512 !== 0) throw invalidDeviceSpec(index, 'A new disk needs a capacity of whole sectors.')
    const home = directoryOf(this.#vm.path)
    let path = wanted
    if (wanted === '' || parseDatastorePath(wanted).path === '' || !wanted.endsWith('.vmdk')) {
      const parsed = wanted === '' ? undefined : parseDatastorePath(wanted)
      const directory = parsed === undefined ? home : parsed.path === '' ? `[${parsed.datastore}] ${parseDatastorePath(home).path}` : wanted
      const stem = basename(baseName(this.#vm.path), '.vmx')
      const used = new Set([
        ...this.#model.files.list(directory),
        ...disksOf(this.#config).map((other) => baseName(other.chain.at(-1)?.path ?? '[x] x')),
      ])
      let count = 0
      while (used.has(count === 0 ? `${stem}.vmdk` : `${stem}_${count}.vmdk`)) count++
      path = within(directory, count === 0 ? `${stem}.vmdk` : `${stem}_${count}.vmdk`)
    }
    disk.chain = [{ path, kind: disk.rdm === 'physical' ? 'rdm' : 'flat', contentId: this.#model.world.seeded.hex(32, path) }]
    const at = this.#model.files.at(directoryOf(path))
    if (at.path !== '' && !this.#model.files.exists(directoryOf(path))) {
      if (directoryOf(path).split(']')[1] === home.split(']')[1]) this.#model.files.makeDirectory(directoryOf(path))
      else throw fileNotFound(path)
    }
    makeDisk(this.#model, { ...this.#vm, config: this.#config }, disk)
    this.made.push(path)
  }

  /** An existing file. Of another VM it is shown, not opened for writing: the hot-add of a frozen disk. */
  #attachFile(disk: DiskRecord, path: string): void {
    const at = this.#model.files.at(path)
    const chain = faulting(path, () => {
      const links: LinkRecord[] = []
      for (let name: string | undefined = at.path; name !== undefined; ) {
        const info = diskInfo(at.store, name)
        const kind =
          info.backing === 'seSparse' ? 'sesparse' : info.backing === 'sparse' ? 'cowd' : info.backing === 'rdmPhysical' ? 'rdm' : 'flat'
        links.push({ path: `[${at.store.name}] ${name}`, kind, contentId: this.#model.world.seeded.hex(32, name) })
        disk.capacity = info.capacityBytes
        disk.thin = info.thin
        name = info.parent
      }
      return links
    })
    for (const other of this.#model.world.vms()) {
      const using = [other.config, ...other.snapshots.map((snapshot) => snapshot.config)]
        .flatMap(disksOf)
        .find((candidate) => !candidate.foreign && candidate.chain.some((link) => link.path === path))
      if (using === undefined) continue
      disk.foreign = true
      disk.uuid = using.uuid
    }
    disk.chain = chain
    disk.records = !disk.foreign
    this.#model.attached.refuse(this.#vm, disk)
    if (!disk.foreign) return
    if (disk.mode === 'independent_nonpersistent') disk.redo = this.#model.attached.redoPath(disk)
    this.attached.push(disk)
  }

  #remove(device: LabObject, fileOperation: string | undefined, index: number): void {
    const key = number(device, 'key')
    const at = this.#config.devices.findIndex((other) => other.key === key)
    const found = this.#config.devices[at]
    if (found === undefined) throw invalidDeviceSpec(index, `There is no device with key ${key}.`)
    if (
      found.kind === 'controller' &&
      this.#config.devices.some((other) => 'controllerKey' in other && other.controllerKey === found.key)
    ) {
      throw invalidDeviceSpec(index, 'The controller has devices.')
    }
    this.#config.devices.splice(at, 1)
    if (found.kind !== 'disk') return
    this.dropped.push(found.key)
    // A host would try to delete the file that another VM stands on.
    if (found.foreign && fileOperation !== undefined) throw fileLocked(found.chain[0]?.path ?? '')
    if (found.foreign) this.detached.push(found)
    if (fileOperation === 'destroy') this.destroyed.push(...found.chain.map((link) => link.path))
  }

  #edit(device: LabObject, index: number): void {
    const key = number(device, 'key')
    const found: DeviceRecord | undefined = this.#config.devices.find((other) => other.key === key)
    if (found === undefined) throw invalidDeviceSpec(index, `There is no device with key ${key}.`)
    const backing = object(device, 'backing')
    if (found.kind === 'disk') {
      const bytes = number(device, 'capacityInBytes') ?? (number(device, 'capacityInKB') ?? 0) * 1024
      if (bytes !== 0 && bytes < found.capacity) throw invalidDeviceSpec(index, 'A disk cannot shrink.')
      if (bytes > found.capacity) {
        if (found.chain.length > 1) throw invalidDeviceSpec(index, 'A disk with snapshots cannot grow.')
        this.grown.push([found, bytes])
      }
      const mode = text(backing, 'diskMode')
      if (mode !== undefined) found.mode = modeOf(mode)
    } else if (found.kind === 'nic') {
      found.network = this.#networkName(device)
      found.mac = text(device, 'macAddress') ?? found.mac
      found.connected = flag(object(device, 'connectable'), 'startConnected') ?? found.connected
    } else if (found.kind === 'cdrom') {
      found.iso = text(backing, 'fileName')
    } else if (found.kind === 'controller') {
      found.sharedBus = text(device, 'sharedBus') ?? found.sharedBus
    }
  }

  /** Of controllers that are not SCSI: an NVMe one takes 15 disks, and 64 since virtual hardware 21; SATA takes 30, IDE two. */
  #lastUnit(controllerKey: number): number {
    if (controllerKey >= 31_000) return this.#config.hardware >= 21 ? 63 : 14
    return controllerKey >= 15_000 ? 29 : 1
  }

  #networkName(device: LabObject): string {
    return text(object(device, 'backing'), 'deviceName') ?? this.#model.world.of('network')[0]?.name ?? 'VM Network'
  }

  #freeKey(first: number): number {
    let key = first
    while (this.#config.devices.some((device) => device.key === key)) key++
    return key
  }

  #freeUnit(controllerKey: number, wanted: number | undefined, index: number): number {
    const scsi = controllerKey >= 1000 && controllerKey < 15_000
    const used = new Set<number>(scsi ? [7] : [])
    // A ParaVirtual controller takes 64 disks since virtual hardware 14.
    const paravirtual = this.#config.devices.some(
      (device) => device.kind === 'controller' && device.key === controllerKey && device.controller === 'pvscsi',
    )
    const last = scsi ? (paravirtual && this.#config.hardware >= 14 ? 63 : 15) : this.#lastUnit(controllerKey)
    for (const device of this.#config.devices)
      if ('controllerKey' in device && device.controllerKey === controllerKey) used.add(device.unit)
    if (wanted !== undefined && wanted >= 0) {
      if (used.has(wanted) || wanted > last) throw invalidDeviceSpec(index, `Unit ${wanted} is taken or not there.`)
      return wanted
    }
    let unit = 0
    while (used.has(unit)) unit++
    if (unit > last) throw new VimFault('TooManyDevices', {}, 'The controller has no unit free.')
    return unit
  }
}

const MODES: readonly DiskMode[] = [
  'persistent',
  'independent_persistent',
  'independent_nonpersistent',
  'nonpersistent',
  'undoable',
  'append',
]
function modeOf(text: string | undefined): DiskMode {
  const mode = MODES.find((candidate) => candidate === (text ?? 'persistent'))
  if (mode === undefined) throw invalidArgument('diskMode')
  return mode
}
