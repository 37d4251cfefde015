import { AgentError, type DeviceRef, type DiskBacking, type DiskRef } from '../core/index.ts'
import type { VimNode } from './vim-node.ts'

/** Longest chain of links read; vSphere allows 32 snapshots. */
const MAX_CHAIN = 256

/** `scsi0` by the controller's class and bus number; undefined for anything that holds no disks. */
function controllerLabel(device: VimNode): string | undefined {
  const prefix = busOf(device.type ?? '')
  return prefix === undefined ? undefined : `${prefix}${device.number('busNumber') ?? 0}`
}

const busOf = (type: string): string | undefined =>
  /AHCI|SATA/i.test(type)
    ? 'sata'
    : /IDE/.test(type)
      ? 'ide'
      : /NVME/i.test(type)
        ? 'nvme'
        : /SCSI|LsiLogic|BusLogic/i.test(type)
          ? 'scsi'
          : undefined

/** `scsi0:1` of a lease's device key, `/vm-4681/ParaVirtualSCSIController0:1`; undefined for what is no disk's place. */
export function labelOfLeaseKey(key: string): string | undefined {
  const [, type = '', bus, unit] = /\/([A-Za-z]+)(\d+):(\d+)$/.exec(key) ?? []
  const prefix = busOf(type)
  return prefix === undefined ? undefined : `${prefix}${bus}:${unit}`
}

const labels = (devices: readonly VimNode[]): ReadonlyMap<number, string> => {
  const found = new Map<number, string>()
  for (const device of devices) {
    const label = controllerLabel(device)
    if (label !== undefined) found.set(keyOf(device), label)
  }
  return found
}

function keyOf(device: VimNode): number {
  const key = device.number('key')
  if (key === undefined) throw new AgentError('INTEGRITY', `The server listed a ${device.type ?? 'device'} without a key.`)
  return key
}

/** Every VirtualDisk of `hardware.device`, in the order given, labelled by its controller. */
export function parseDisks(devices: readonly VimNode[]): readonly DiskRef[] {
  const controllers = labels(devices)
  const buses = new Map(devices.map((device) => [device.number('key'), device.string('sharedBus')]))
  return devices
    .filter((device) => device.type === 'VirtualDisk')
    .map((device) => parseDisk(device, controllers, buses.get(device.number('controllerKey'))))
}

function parseDisk(device: VimNode, controllers: ReadonlyMap<number, string>, sharedBus: string | undefined): DiskRef {
  const key = keyOf(device)
  const backing = device.get('backing')
  const controller = controllers.get(device.number('controllerKey') ?? Number.NaN)
  const chain = chainOf(backing)
  const kilobytes = device.number('capacityInKB')
  return {
    key,
    label: controller === undefined ? `disk${key}` : `${controller}:${device.number('unitNumber') ?? 0}`,
    capacityBytes: device.number('capacityInBytes') ?? (kilobytes === undefined ? 0 : kilobytes * 1024),
    backing: backingKind(backing),
    diskMode: backing?.string('diskMode') ?? 'persistent',
    fileName: chain[0] ?? '',
    chain,
    uuid: backing?.string('uuid'),
    changeId: emptyAsUnset(backing?.string('changeId')),
    thin: backing?.boolean('thinProvisioned') ?? false,
    sharing: backing?.string('sharing'),
    sharedBus: sharedBus === 'noSharing' ? undefined : sharedBus,
  }
}

/** Datastore paths from this link down to the base disk. */
function chainOf(backing: VimNode | undefined): readonly string[] {
  const chain: string[] = []
  for (let link = backing; link !== undefined; link = link.get('parent')) {
    if (chain.length >= MAX_CHAIN) throw new AgentError('INTEGRITY', `The server listed a disk with more than ${MAX_CHAIN} links.`)
    const fileName = emptyAsUnset(link.string('fileName')) ?? emptyAsUnset(link.string('descriptorFileName'))
    if (fileName !== undefined) chain.push(fileName)
  }
  return chain
}

function backingKind(backing: VimNode | undefined): DiskBacking {
  switch (backing?.type) {
    case 'VirtualDiskFlatVer1BackingInfo':
    case 'VirtualDiskFlatVer2BackingInfo':
      return 'flat'
    case 'VirtualDiskSeSparseBackingInfo':
      return 'seSparse'
    case 'VirtualDiskSparseVer1BackingInfo':
    case 'VirtualDiskSparseVer2BackingInfo':
      return 'sparse'
    case 'VirtualDiskRawDiskMappingVer1BackingInfo':
      return backing.string('compatibilityMode') === 'physicalMode' ? 'rdmPhysical' : 'rdmVirtual'
    case 'VirtualDiskRawDiskVer2BackingInfo':
    case 'VirtualDiskPartitionedRawDiskVer2BackingInfo':
      return 'raw'
    default:
      return 'unknown'
  }
}

/** Every device, disks and controllers too. `networks` gives names by reference, for adapters on distributed port groups. */
export function parseDevices(devices: readonly VimNode[], networks: ReadonlyMap<string, string> = new Map()): readonly DeviceRef[] {
  const controllers = labels(devices)
  return devices.map((device) => {
    const key = keyOf(device)
    const controllerKey = device.number('controllerKey')
    const unitNumber = device.number('unitNumber')
    const bus = controllers.get(controllerKey ?? Number.NaN)
    const backing = device.get('backing')
    return {
      key,
      type: device.type ?? 'VirtualDevice',
      label:
        controllers.get(key) ?? (bus === undefined ? (device.string('deviceInfo.label') ?? `device${key}`) : `${bus}:${unitNumber ?? 0}`),
      controllerKey,
      unitNumber,
      busNumber: device.number('busNumber'),
      summary:
        emptyAsUnset(backing?.string('fileName')) ?? emptyAsUnset(backing?.string('deviceName')) ?? device.string('deviceInfo.summary'),
      macAddress: device.string('macAddress'),
      network: device.get('macAddress') === undefined ? undefined : networkOf(device, networks),
      sharedBus: device.string('sharedBus'),
    }
  })
}

function networkOf(device: VimNode, networks: ReadonlyMap<string, string>): string | undefined {
  const backing = device.get('backing')
  // A distributed port group's key is the id of its reference.
  const portgroup = backing?.string('port.portgroupKey') ?? backing?.string('network') ?? ''
  return emptyAsUnset(backing?.string('deviceName')) ?? networks.get(portgroup) ?? emptyAsUnset(device.string('deviceInfo.summary'))
}

const emptyAsUnset = (text: string | undefined): string | undefined => (text === '' ? undefined : text)
