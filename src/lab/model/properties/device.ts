import { type LabObject, type LabValue } from '../../wire/index.ts'
import type { ConfigRecord, ControllerType, DeviceRecord, DiskRecord } from '../record.ts'
import type { View } from '../view.ts'

const CONTROLLERS: Readonly<Record<ControllerType, readonly [type: string, label: string, summary: string, unit: number]>> = {
  lsilogic: ['VirtualLsiLogicController', 'SCSI controller', 'LSI Logic', 3],
  lsisas: ['VirtualLsiLogicSASController', 'SCSI controller', 'LSI Logic SAS', 3],
  pvscsi: ['ParaVirtualSCSIController', 'SCSI controller', 'VMware paravirtual SCSI', 3],
  buslogic: ['VirtualBusLogicController', 'SCSI controller', 'BusLogic', 3],
  sata: ['VirtualAHCIController', 'SATA controller', 'AHCI', 24],
  ide: ['VirtualIDEController', 'IDE', 'IDE', 0],
  nvme: ['VirtualNVMEController', 'NVME controller', 'NVME controller', 30],
}
const NICS: Readonly<Record<string, string>> = { vmxnet3: 'VirtualVmxnet3', e1000: 'VirtualE1000', e1000e: 'VirtualE1000e' }
export const CONTROLLER_OF_TYPE: ReadonlyMap<string, ControllerType> = new Map(
  (Object.keys(CONTROLLERS) as ControllerType[]).map((key) => [CONTROLLERS[key][0], key]),
)
export const NIC_OF_TYPE: ReadonlyMap<string, string> = new Map(Object.entries(NICS).map(([key, type]) => [type, key]))

const info = (label: string, summary: string): LabObject => ({ $type: 'Description', label, summary })

/** config.hardware.device: the VM's own devices behind the ones every virtual board has. */
export function deviceList(view: View, config: ConfigRecord, datacenter: string | undefined): LabObject[] {
  const fixed: LabObject[] = [
    {
      $type: 'VirtualPCIController',
      key: 100,
      deviceInfo: info('PCI controller 0', 'PCI controller 0'),
      busNumber: 0,
      device: [500, 12_000],
    },
    { $type: 'VirtualPS2Controller', key: 300, deviceInfo: info('PS2 controller 0', 'PS2 controller 0'), busNumber: 0, device: [600, 700] },
    { $type: 'VirtualSIOController', key: 400, deviceInfo: info('SIO controller 0', 'SIO controller 0'), busNumber: 0 },
    { $type: 'VirtualKeyboard', key: 600, deviceInfo: info('Keyboard', 'Keyboard'), controllerKey: 300, unitNumber: 0 },
    { $type: 'VirtualPointingDevice', key: 700, deviceInfo: info('Pointing device', 'Pointing device'), controllerKey: 300, unitNumber: 1 },
    {
      $type: 'VirtualMachineVideoCard',
      key: 500,
      deviceInfo: info('Video card', 'Video card'),
      controllerKey: 100,
      unitNumber: 0,
      videoRamSizeInKB: 4096,
    },
  ]
  for (const [key, bus] of [
    [200, 0],
    [201, 1],
  ] as const) {
    if (!config.devices.some((device) => device.kind === 'controller' && device.key === key)) {
      fixed.push({ $type: 'VirtualIDEController', key, deviceInfo: info(`IDE ${bus}`, `IDE ${bus}`), busNumber: bus })
    }
  }
  let disks = 0
  return [...fixed, ...config.devices.map((device) => deviceObject(view, config, device, datacenter, device.kind === 'disk' ? ++disks : 0))]
}

function deviceObject(view: View, config: ConfigRecord, device: DeviceRecord, datacenter: string | undefined, number: number): LabObject {
  switch (device.kind) {
    case 'controller': {
      const [type, label, summary, unit] = CONTROLLERS[device.controller]
      const attached = config.devices
        .filter((other) => 'controllerKey' in other && other.controllerKey === device.key)
        .map((other) => other.key)
      const scsi = device.key >= 1000 && device.key < 15_000
      return {
        $type: type,
        key: device.key,
        deviceInfo: info(`${label} ${device.bus}`, summary),
        controllerKey: device.controller === 'ide' ? undefined : 100,
        unitNumber: device.controller === 'ide' ? undefined : unit + device.bus,
        busNumber: device.bus,
        device: attached.length === 0 ? undefined : attached,
        ...(scsi ? { hotAddRemove: true, sharedBus: device.sharedBus, scsiCtlrUnitNumber: 7 } : {}),
      }
    }
    case 'disk':
      return {
        $type: 'VirtualDisk',
        key: device.key,
        deviceInfo: info(`Hard disk ${number}`, `${(device.capacity / 1024).toLocaleString('en-US')} KB`),
        backing: diskBacking(view, device, 0),
        controllerKey: device.controllerKey,
        unitNumber: device.unit,
        capacityInKB: Math.ceil(device.capacity / 1024),
        capacityInBytes: device.capacity,
        shares: { $type: 'SharesInfo', shares: 1000, level: 'normal' },
        diskObjectId: `${device.key}-${device.uuid}`,
        nativeUnmanagedLinkedClone: false,
      }
    case 'nic':
      return {
        $type: NICS[device.nic] ?? 'VirtualVmxnet3',
        key: device.key,
        deviceInfo: info(`Network adapter ${device.key - 3999}`, device.network),
        backing: {
          $type: 'VirtualEthernetCardNetworkBackingInfo',
          deviceName: device.network,
          useAutoDetect: false,
          network: view.refOf(view.world.network(device.network, datacenter)?.id),
        },
        connectable: connectable(device.connected),
        controllerKey: 100,
        unitNumber: device.unit,
        addressType: 'assigned',
        macAddress: device.mac,
        wakeOnLanEnabled: true,
      }
    case 'cdrom':
      return {
        $type: 'VirtualCdrom',
        key: device.key,
        deviceInfo: info('CD/DVD drive 1', device.iso === undefined ? 'Remote device' : `ISO ${device.iso}`),
        backing:
          device.iso === undefined
            ? { $type: 'VirtualCdromRemotePassthroughBackingInfo', deviceName: '', useAutoDetect: false, exclusive: false }
            : { $type: 'VirtualCdromIsoBackingInfo', fileName: device.iso },
        connectable: connectable(false),
        controllerKey: device.controllerKey,
        unitNumber: device.unit,
      }
    case 'usb':
      return {
        $type: 'VirtualUSBController',
        key: device.key,
        deviceInfo: info('USB controller', 'Auto connect Disabled'),
        controllerKey: 100,
        unitNumber: 22,
        busNumber: 0,
      }
    case 'serial':
      return {
        $type: 'VirtualSerialPort',
        key: device.key,
        deviceInfo: info('Serial port 1', device.file),
        backing: { $type: 'VirtualSerialPortFileBackingInfo', fileName: device.file },
        connectable: connectable(true),
        controllerKey: 400,
        unitNumber: device.unit,
        yieldOnPoll: true,
      }
    case 'floppy':
      return {
        $type: 'VirtualFloppy',
        key: device.key,
        deviceInfo: info('Floppy drive 1', 'Remote'),
        backing: { $type: 'VirtualFloppyRemoteDeviceBackingInfo', deviceName: '', useAutoDetect: false },
        connectable: connectable(false),
        controllerKey: 400,
        unitNumber: device.unit,
      }
  }
}

const connectable = (connected: boolean): LabObject => ({
  $type: 'VirtualDeviceConnectInfo',
  startConnected: connected,
  allowGuestControl: true,
  connected,
  status: connected ? 'ok' : 'untried',
})

/** The backing of link `index` of a disk, with its parents below it. The changeId belongs to the whole disk and stands on the first. */
function diskBacking(view: View, disk: DiskRecord, index: number): LabValue {
  const link = disk.chain[index]
  if (link === undefined) return undefined
  const store = /^\[([^\]]+)\]/.exec(link.path)?.[1] ?? ''
  const common = {
    fileName: link.path,
    datastore: view.refOf(view.world.datastore(store)?.id),
    backingObjectId: '',
  }
  const parent = diskBacking(view, disk, index + 1)
  const changeId = index === 0 ? disk.changeId : undefined
  if (disk.rdm !== undefined) {
    return {
      $type: 'VirtualDiskRawDiskMappingVer1BackingInfo',
      ...common,
      lunUuid: `0200000000${disk.uuid.replaceAll('-', '').toLowerCase()}`,
      deviceName: `vml.0200000000${disk.uuid.replaceAll('-', '').toLowerCase()}`,
      compatibilityMode: disk.rdm === 'physical' ? 'physicalMode' : 'virtualMode',
      diskMode: disk.rdm === 'physical' ? 'independent_persistent' : disk.mode,
      uuid: disk.uuid,
      contentId: link.contentId,
      changeId,
      parent,
      sharing: disk.sharing,
    }
  }
  return {
    $type: 'VirtualDiskFlatVer2BackingInfo',
    ...common,
    diskMode: disk.mode,
    split: false,
    writeThrough: false,
    thinProvisioned: disk.thin,
    eagerlyScrub: disk.eager && !disk.thin ? true : undefined,
    uuid: disk.uuid,
    contentId: link.contentId,
    changeId,
    parent,
    deltaDiskFormat: link.kind === 'sesparse' ? 'seSparseFormat' : link.kind === 'cowd' ? 'redoLogFormat' : undefined,
    digestEnabled: false,
    deltaGrainSize: link.kind === 'sesparse' ? 8 : undefined,
    sharing: disk.sharing,
  }
}
