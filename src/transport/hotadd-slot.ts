import type { DeviceRef } from '../core/index.ts'
import type { DiskSlot } from '../vsphere/index.ts'

/** SCSI buses of a VM. */
const BUSES = 4

type Kind = {
  /** The order in which controllers are preferred. */
  readonly rank: number
  /** Units that are used: what every version of virtual hardware has. More of newer ones are left to others. */
  readonly units: number
  /** The controller's own unit. */
  readonly own?: number | undefined
}

/**
 * Classes that take disks while the VM runs and whose disks show their uuid in the guest. BusLogic has limits of its own; a SATA disk has a name of 64 bits,
 * which has no room for a uuid; IDE takes no disk of a running VM.
 */
const KINDS: ReadonlyMap<string, Kind> = new Map([
  ['ParaVirtualSCSIController', { rank: 0, units: 16, own: 7 }],
  ['VirtualLsiLogicController', { rank: 1, units: 16, own: 7 }],
  ['VirtualLsiLogicSASController', { rank: 1, units: 16, own: 7 }],
  // 15 disks, units 0 to 14 (vSphere 6.5 and later, virtual hardware 13); newer hardware has more.
  ['VirtualNVMEController', { rank: 2, units: 15 }],
])
const SCSI: readonly string[] = [
  'ParaVirtualSCSIController',
  'VirtualLsiLogicController',
  'VirtualLsiLogicSASController',
  'VirtualBusLogicController',
]

export type SlotWishes = {
  /** Whether disks of an NVMe controller show their uuid in this guest; without it none is put there. */
  readonly nvme: boolean
}

/**
 * The first free place for one more disk: ParaVirtual SCSI before other SCSI before NVMe, then by bus and unit, every device of a controller counted, be it a
 * disk or not; else a new ParaVirtual controller on the lowest free SCSI bus. Controllers that are shared with other VMs are left alone. Undefined when
 * all is taken.
 */
export function freeSlot(devices: readonly DeviceRef[], { nvme }: SlotWishes): DiskSlot | undefined {
  const controllers = devices
    .flatMap((device) => {
      const kind = KINDS.get(device.type)
      const shared = device.sharedBus !== undefined && device.sharedBus !== 'noSharing'
      return kind === undefined || shared || (device.type === 'VirtualNVMEController' && !nvme) ? [] : [{ device, kind }]
    })
    .toSorted((a, b) => a.kind.rank - b.kind.rank || (a.device.busNumber ?? 0) - (b.device.busNumber ?? 0))
  for (const { device, kind } of controllers) {
    const taken = new Set(devices.filter(({ controllerKey }) => controllerKey === device.key).map(({ unitNumber }) => unitNumber))
    for (let unit = 0; unit < kind.units; unit++) if (unit !== kind.own && !taken.has(unit)) return { controllerKey: device.key, unit }
  }
  const buses = new Set(devices.filter(({ type }) => SCSI.includes(type)).map(({ busNumber }) => busNumber ?? 0))
  for (let bus = 0; bus < BUSES; bus++) if (!buses.has(bus)) return { newBus: bus, unit: 0 }
  return undefined
}
