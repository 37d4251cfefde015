import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { diskInfo, VmxFile } from '../storage/index.ts'
import { VimFault } from '../wire/index.ts'
import { baseName, directoryOf } from './datastore-path.ts'
import { faulting } from './files.ts'
import { fileNotFound } from './faults.ts'
import { diskKey } from './inventory-build.ts'
import type { Model } from './model.ts'
import type { ConfigRecord, ControllerType, DeviceRecord, DiskMode, LinkRecord, VmRecord } from './record.ts'

/** A record for a VM that is about to exist; its configuration is filled in by the caller. */
export function emptyVm(
  model: Model,
  place: {
    readonly folder: string
    readonly host: string
    readonly pool: string | undefined
    readonly path: string
    readonly name: string
  },
): VmRecord {
  const { world } = model
  const id = world.newId('vm-')
  const made = world.now().toISOString()
  return {
    id,
    folder: place.folder,
    host: place.host,
    pool: place.pool,
    path: place.path,
    createdAt: made,
    power: 'poweredOff',
    bootTime: undefined,
    tools: 'running',
    ip: undefined,
    hostName: undefined,
    template: false,
    config: {
      name: place.name,
      uuid: world.seeded.uuid(id, made, 'bios').replace(/^.{2}/, '42'),
      instanceUuid: world.seeded.uuid(id, made, 'instance').replace(/^.{2}/, '50'),
      changeVersion: 1,
      modified: made,
      guestId: 'otherGuest64',
      hardware: 19,
      firmware: 'bios',
      cpus: 1,
      memoryMb: 128,
      annotation: '',
      changeTracking: false,
      managedBy: undefined,
      extraConfig: {},
      devices: [],
    },
    snapshots: [],
    currentSnapshot: undefined,
    nextSnapshotNumber: 1,
    consolidationNeeded: false,
    trackingActive: false,
    disabledMethods: [],
    customValues: {},
    tags: [],
    workload: 0,
    freezeLimitSeconds: 10,
    freezeMs: 0,
    digests: [],
    materialised: true,
    pending: undefined,
  }
}

const CONTROLLERS: Readonly<Record<string, ControllerType>> = {
  lsilogic: 'lsilogic',
  lsisas1068: 'lsisas',
  pvscsi: 'pvscsi',
  buslogic: 'buslogic',
  ahci: 'sata',
  ide: 'ide',
  nvme: 'nvme',
}
const FIRST_KEY: Readonly<Record<string, number>> = { scsi: 1000, sata: 15_000, nvme: 31_000, ide: 200 }
/** Keys the record's own fields hold, and what a host derives. */
const OWN_KEYS =
  /^(\.encoding|displayname|guestos|memsize|numvcpus|firmware|annotation|uuid\.(bios|location)|vc\.uuid|virtualhw\..*|config\.version|nvram|ctkenabled|(scsi|sata|nvme|ide|ethernet|serial|usb|pcibridge|floppy)\d*.*|vmci0\..*|hpet0\..*|extendedconfigfile|log\..*|svga\..*|tools\..*|mks\..*|cleanshutdown|migrate\..*|numa\..*|sched\..*|powertype\..*|bios\..*|cpuid\..*|hw\..*|softpoweroff|viv\..*|vmxstats\..*|monitor\..*|guestinfo\.detailed.*)$/

/**
 * The configuration a VMX file describes, as registration takes it. Faults FileNotFound (VMX or a disk), InvalidVmConfig.
 */
export function configFromVmx(model: Model, vm: VmRecord, name: string | undefined): ConfigRecord {
  if (!model.files.exists(vm.path)) throw fileNotFound(vm.path)
  const raw = readFileSync(model.files.local(vm.path), 'utf8')
  if (raw.length > 1_048_576) throw new VimFault('InvalidVmConfig', { property: 'config' }, 'The VMX file is too large.')
  let vmx: VmxFile
  try {
    vmx = VmxFile.parse(raw)
  } catch (error) {
    throw new VimFault(
      'InvalidVmConfig',
      { property: 'config' },
      `The VMX file cannot be read: ${error instanceof Error ? error.message : ''}`,
    )
  }
  const home = directoryOf(vm.path)
  const devices: DeviceRecord[] = []
  const controllerOf = (bus: string, busNumber: number): number => {
    const key = (FIRST_KEY[bus] ?? 1000) + busNumber
    if (!devices.some((device) => device.key === key)) {
      const dev = vmx.get(`${bus}${busNumber}.virtualDev`)?.toLowerCase()
      const fallback: ControllerType = bus === 'sata' || bus === 'nvme' || bus === 'ide' ? bus : 'lsilogic'
      const sharedBus = vmx.get(`${bus}${busNumber}.sharedBus`)?.toLowerCase()
      devices.push({
        kind: 'controller',
        key,
        controller: CONTROLLERS[dev ?? ''] ?? fallback,
        bus: busNumber,
        sharedBus: sharedBus === 'virtual' ? 'virtualSharing' : sharedBus === 'physical' ? 'physicalSharing' : 'noSharing',
      })
    }
    return key
  }
  for (const disk of vmx.disks()) {
    if (!disk.fileName.endsWith('.vmdk')) continue
    const controllerKey = controllerOf(disk.bus, disk.busNumber)
    const path = model.files.resolve(home, disk.fileName, model.world)
    const at = model.files.at(path)
    const chain: LinkRecord[] = []
    let capacity = 0
    let thin = false
    let uuid = ''
    let rdm: 'physical' | 'virtual' | undefined
    faulting(path, () => {
      for (let link: string | undefined = at.path; link !== undefined; ) {
        const info = diskInfo(at.store, link)
        const kind =
          info.backing === 'seSparse' ? 'sesparse' : info.backing === 'sparse' ? 'cowd' : info.backing === 'rdmPhysical' ? 'rdm' : 'flat'
        chain.push({ path: `[${at.store.name}] ${link}`, kind, contentId: info.cid.repeat(4) })
        if (chain.length === 1) {
          capacity = info.capacityBytes
          uuid = wireUuid(info.uuid)
        }
        thin = info.thin
        rdm = info.backing === 'rdmPhysical' ? 'physical' : info.backing === 'rdmVirtual' ? 'virtual' : undefined
        link = info.parent
      }
    })
    devices.push({
      kind: 'disk',
      key: diskKey(controllerKey, disk.busNumber, disk.unitNumber),
      controllerKey,
      unit: disk.unitNumber,
      capacity,
      mode: modeOf(disk.mode),
      sharing: vmx.get(`${disk.bus}${disk.busNumber}:${disk.unitNumber}.sharing`) === 'multi-writer' ? 'sharingMultiWriter' : 'sharingNone',
      thin,
      eager: false,
      uuid: uuid === '' ? model.world.seeded.uuid(vm.id, path).replace(/^.{7}/, '6000C29') : uuid,
      rdm,
      chain,
      changeId: undefined,
      records: rdm !== 'physical',
      content: 'empty',
      foreign: false,
    })
  }
  for (let index = 0; index < 10; index++) {
    if (vmx.get(`ethernet${index}.present`)?.toUpperCase() !== 'TRUE') continue
    const mac = vmx.get(`ethernet${index}.address`) ?? vmx.get(`ethernet${index}.generatedAddress`)
    devices.push({
      kind: 'nic',
      key: 4000 + index,
      nic: vmx.get(`ethernet${index}.virtualDev`) ?? 'vmxnet3',
      network: vmx.get(`ethernet${index}.networkName`) ?? 'VM Network',
      mac: mac ?? model.world.seeded.mac(vm.id, index),
      unit: 7 + index,
      connected: vmx.get(`ethernet${index}.startConnected`)?.toUpperCase() !== 'FALSE',
    })
  }
  const extraConfig: Record<string, string> = {}
  for (const [key, value] of vmx.entries()) if (!OWN_KEYS.test(key.toLowerCase())) extraConfig[key] = value
  const fresh = vm.config
  return {
    ...fresh,
    name: name ?? vmx.get('displayName') ?? basename(baseName(vm.path), '.vmx'),
    uuid: uuidFromVmx(vmx.get('uuid.bios')) ?? fresh.uuid,
    instanceUuid: freeInstanceUuid(model, uuidFromVmx(vmx.get('vc.uuid'))) ?? fresh.instanceUuid,
    guestId: guestIdOf(vmx.get('guestOS')) ?? fresh.guestId,
    hardware: Number(vmx.get('virtualHW.version') ?? fresh.hardware),
    firmware: vmx.get('firmware') === 'efi' ? 'efi' : 'bios',
    cpus: Number(vmx.get('numvcpus') ?? 1),
    memoryMb: Number(vmx.get('memSize') ?? 128),
    annotation: vmx.get('annotation') ?? '',
    changeTracking: vmx.get('ctkEnabled')?.toUpperCase() === 'TRUE',
    extraConfig,
    devices,
  }
}

function modeOf(text: string): DiskMode {
  const mode = text.replace('-', '_')
  return mode === 'independent_persistent' ||
    mode === 'independent_nonpersistent' ||
    mode === 'nonpersistent' ||
    mode === 'undoable' ||
    mode === 'append'
    ? mode
    : 'persistent'
}

/** `56 4d ab … -…` of a VMX as 8-4-4-4-12. */
export function uuidFromVmx(text: string | undefined): string | undefined {
  const hex = (text ?? '').replace(/[^0-9a-f]/gi, '').toLowerCase()
  return hex.length === 32 ? `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}` : undefined
}

const wireUuid = (text: string): string => {
  const uuid = uuidFromVmx(text)
  return uuid === undefined
    ? ''
    : uuid
        .toUpperCase()
        .replace(/^.{8}/, (head) => head)
        .replace(/-.*/, (rest) => rest.toLowerCase())
}

/** A vCenter never has two VMs with one instance uuid: the newcomer gets another. */
function freeInstanceUuid(model: Model, wanted: string | undefined): string | undefined {
  if (wanted === undefined) return undefined
  for (const vm of model.world.vms()) if (vm.config.instanceUuid === wanted) return undefined
  return wanted
}

/** VMX names guests otherwise than the API: `debian12-64` is `debian12_64Guest`. */
function guestIdOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  return text.endsWith('Guest')
    ? text
    : `${text
        .replace(/-64$/, '_64')
        .replace('otherlinux_64', 'otherLinux64')
        .replace('ubuntu_64', 'ubuntu64')
        .replace(/^other_64$/, 'other64')}Guest`
}
