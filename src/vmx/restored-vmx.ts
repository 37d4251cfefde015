import type { DeviceRef, DiskRef, VmConfig } from '../core/index.ts'
import { Vmx } from './vmx.ts'

export type RestoredVmxOptions = {
  readonly name: string
  /** Disk label (`scsi0:1`) → VMDK file name beside the VMX. Disks not listed are left out. */
  readonly disks: ReadonlyMap<string, string>
  readonly nvram?: string | undefined
  /** Old network name → new one; null = leave the card disconnected. Names not listed stay. */
  readonly networks?: ReadonlyMap<string, string | null> | undefined
  /** Keep BIOS and instance uuid and MAC addresses: the restored VM takes the place of the old one. */
  readonly keepIdentity: boolean
}

export type RestoredVmx = {
  readonly vmx: Vmx
  /** What could not be carried over, in words. */
  readonly dropped: readonly string[]
}

/** Keys of devices that may belong to a host, not to a VM: a restore leaves those out and says so. Group 1 is the device, in lower case. */
const HOST_BOUND = /^((?:ide|sata|scsi|nvme)\d+:\d+|floppy\d+|usb|ehci|xhci|usb_xhci|serial\d+|parallel\d+|pcipassthru\d+|sound)[.:]/

/**
 * The VMX of a restored VM. From the saved `.vmx` where the point has one, so that every setting is kept, else from the manifest. Disks name
 * their new files; change tracking, swap, snapshot and migration leftovers go; host-bound devices (ISO, USB, PCI, serial) go and are listed.
 */
export function restoredVmx(saved: Vmx | undefined, config: VmConfig, options: RestoredVmxOptions): RestoredVmx {
  const vmx = saved ?? fromConfig(config)
  const dropped = new Set<string>()
  const devices = new Set([...vmx].map(([key]) => HOST_BOUND.exec(key.toLowerCase())?.[1]).filter((device) => device !== undefined))
  for (const device of devices) {
    if (!isHostBound(vmx, device)) continue
    if (vmx.get(`${device}.present`)?.toLowerCase() === 'true') dropped.add(describe(vmx, device))
    vmx.remove((key) => key.startsWith(`${device}.`) || key.startsWith(`${device}:`))
  }
  vmx.remove((key) => LEFTOVERS.test(key))
  for (const disk of config.disks) setDisk(vmx, disk, options.disks.get(disk.label))
  for (const key of [...vmx].map(([name]) => name)) {
    const device = /^((?:scsi|sata|ide|nvme)\d+:\d+)\.present$/i.exec(key)?.[1]
    if (device !== undefined && !options.disks.has(device.toLowerCase())) vmx.remove((name) => name.startsWith(`${device.toLowerCase()}.`))
  }
  vmx.set('displayName', options.name)
  if (options.nvram !== undefined) vmx.set('nvram', options.nvram)
  else vmx.remove((key) => key === 'nvram')
  setNetworks(vmx, options)
  if (!options.keepIdentity) {
    vmx.remove((key) => key === 'uuid.bios' || key === 'vc.uuid' || key === 'uuid.location')
    vmx.set('uuid.action', 'create')
  } else {
    vmx.remove((key) => key === 'uuid.location')
    vmx.set('uuid.action', 'keep')
  }
  return { vmx, dropped: [...dropped, ...droppedDevices(saved, config)] }
}

const LEFTOVERS = /\.ctkenabled$|^ctkenabled$|^sched\.swap\.|^migrate\.|^checkpoint\.|^vmotion\.|^snapshot\.|^sched\.scsi.*\.throughputcap$/

function isHostBound(vmx: Vmx, device: string): boolean {
  if (!/^(ide|sata|scsi|nvme)\d+:\d+$/.test(device)) return true
  const type = vmx.get(`${device}.deviceType`)?.toLowerCase() ?? ''
  return type.includes('cdrom') || type.includes('atapi') || type.includes('passthru') || type.includes('rawdisk')
}

const describe = (vmx: Vmx, device: string): string => {
  const file = vmx.get(`${device}.fileName`)
  return file === undefined ? device : `${device} (${file})`
}

function setDisk(vmx: Vmx, disk: DiskRef, file: string | undefined): void {
  if (file === undefined) {
    vmx.remove((key) => key.startsWith(`${disk.label.toLowerCase()}.`))
    return
  }
  vmx.set(`${disk.label}.present`, 'TRUE')
  vmx.set(`${disk.label}.deviceType`, disk.label.startsWith('scsi') ? 'scsi-hardDisk' : 'disk')
  vmx.set(`${disk.label}.fileName`, file)
}

function setNetworks(vmx: Vmx, options: RestoredVmxOptions): void {
  for (const [key] of vmx) {
    const device = /^(ethernet\d+)\.present$/i.exec(key)?.[1]
    if (device === undefined) continue
    const old = vmx.get(`${device}.networkName`)
    const mapped = old === undefined ? undefined : options.networks?.get(old)
    if (mapped === null) {
      vmx.remove((name) => name === `${device.toLowerCase()}.networkname` || name.startsWith(`${device.toLowerCase()}.dvs.`))
      vmx.set(`${device}.startConnected`, 'FALSE')
    } else if (mapped !== undefined) {
      vmx.remove((name) => name.startsWith(`${device.toLowerCase()}.dvs.`))
      vmx.set(`${device}.networkName`, mapped)
    }
    if (!options.keepIdentity) {
      vmx.remove(
        (name) =>
          name === `${device.toLowerCase()}.generatedaddress` ||
          name === `${device.toLowerCase()}.generatedaddressoffset` ||
          name === `${device.toLowerCase()}.address`,
      )
      vmx.set(`${device}.addressType`, 'generated')
    }
  }
}

/** Device classes a manifest may list that cannot be made again elsewhere; only asked when there is no saved VMX to say more. */
function droppedDevices(saved: Vmx | undefined, config: VmConfig): readonly string[] {
  if (saved !== undefined) return []
  return config.devices.filter((device) => isHostBoundDevice(device)).map((device) => device.summary ?? device.label)
}

/** vSphere device classes that belong to a host or a person's desk, not to the VM. */
export const isHostBoundDevice = (device: DeviceRef): boolean =>
  /^Virtual(Cdrom|Floppy|USB|SerialPort|ParallelPort|PCIPassthrough|SCSIPassthrough|SoundCard)/.test(device.type)

const CONTROLLERS: Readonly<Record<string, readonly [prefix: string, virtualDev: string | undefined]>> = {
  VirtualLsiLogicController: ['scsi', 'lsilogic'],
  VirtualLsiLogicSASController: ['scsi', 'lsisas1068'],
  ParaVirtualSCSIController: ['scsi', 'pvscsi'],
  VirtualBusLogicController: ['scsi', 'buslogic'],
  VirtualAHCIController: ['sata', undefined],
  VirtualNVMEController: ['nvme', undefined],
}
const ADAPTERS: Readonly<Record<string, string>> = {
  VirtualVmxnet3: 'vmxnet3',
  VirtualE1000: 'e1000',
  VirtualE1000e: 'e1000e',
  VirtualVmxnet2: 'vmxnet',
  VirtualPCNet32: 'vlance',
}

function fromConfig(config: VmConfig): Vmx {
  const vmx = new Vmx()
  vmx.set('config.version', '8')
  vmx.set('virtualHW.version', config.hardwareVersion.replace(/^vmx-0*/, '') || '14')
  vmx.set('guestOS', config.guestId.replace(/Guest$/, ''))
  vmx.set('numvcpus', String(config.numCpu))
  vmx.set('memSize', String(config.memoryMb))
  vmx.set('firmware', config.firmware === 'efi' ? 'efi' : 'bios')
  if (config.annotation !== '') vmx.set('annotation', config.annotation)
  vmx.set('uuid.bios', config.vm.biosUuid)
  vmx.set('vc.uuid', config.vm.instanceUuid)
  let adapters = 0
  for (const device of config.devices) {
    const controller = CONTROLLERS[device.type]
    if (controller !== undefined) {
      const name = `${controller[0]}${device.busNumber ?? 0}`
      vmx.set(`${name}.present`, 'TRUE')
      if (controller[1] !== undefined) vmx.set(`${name}.virtualDev`, controller[1])
      if (device.sharedBus !== undefined && device.sharedBus !== 'noSharing')
        vmx.set(`${name}.sharedBus`, device.sharedBus === 'physicalSharing' ? 'physical' : 'virtual')
      continue
    }
    const adapter = ADAPTERS[device.type]
    if (adapter === undefined) continue
    const name = `ethernet${adapters++}`
    vmx.set(`${name}.present`, 'TRUE')
    vmx.set(`${name}.virtualDev`, adapter)
    if (device.network !== undefined) vmx.set(`${name}.networkName`, device.network)
    if (device.macAddress !== undefined) {
      vmx.set(`${name}.addressType`, 'static')
      vmx.set(`${name}.address`, device.macAddress)
    }
  }
  for (const [key, value] of Object.entries(config.extraConfig)) if (vmx.get(key) === undefined) vmx.set(key, value)
  return vmx
}
