import type { DeviceRef } from '../core/index.ts'
import type { DiskSlot } from '../vsphere/index.ts'

/** Units of a SCSI controller; 7 is the controller's own. More of a ParaVirtual one are left to others. */
const UNITS = 16
const OWN_UNIT = 7
/** SCSI buses of a VM. */
const BUSES = 4

/** Classes that take disks while the VM runs; BusLogic has limits of its own, and what an NVMe disk shows of its uuid is not known. */
const TAKES_DISKS: readonly string[] = ['ParaVirtualSCSIController', 'VirtualLsiLogicController', 'VirtualLsiLogicSASController']
const SCSI: readonly string[] = [...TAKES_DISKS, 'VirtualBusLogicController']

/**
 * The first free place for one more disk: by bus, then by unit, every device of a controller counted, be it a disk or not; else a new controller on
 * the lowest free bus. Controllers that are shared with other VMs are left alone. Undefined when all is taken.
 */
export function freeSlot(devices: readonly DeviceRef[]): DiskSlot | undefined {
  const controllers = devices.filter(({ type }) => SCSI.includes(type)).toSorted((a, b) => (a.busNumber ?? 0) - (b.busNumber ?? 0))
  for (const { key, type, sharedBus } of controllers) {
    if (!TAKES_DISKS.includes(type) || (sharedBus !== undefined && sharedBus !== 'noSharing')) continue
    const taken = new Set(devices.filter((device) => device.controllerKey === key).map((device) => device.unitNumber))
    for (let unit = 0; unit < UNITS; unit++) if (unit !== OWN_UNIT && !taken.has(unit)) return { controllerKey: key, unit }
  }
  const buses = new Set(controllers.map(({ busNumber }) => busNumber ?? 0))
  for (let bus = 0; bus < BUSES; bus++) if (!buses.has(bus)) return { newBus: bus, unit: 0 }
  return undefined
}
