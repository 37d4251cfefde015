import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DeviceRef } from '../core/index.ts'
import { freeSlot as slotFor } from './hotadd-slot.ts'

const freeSlot = (devices: readonly DeviceRef[], nvme = true) => slotFor(devices, { nvme })
const controller = (key: number, busNumber: number, type = 'ParaVirtualSCSIController', more: Partial<DeviceRef> = {}): DeviceRef => ({
  key,
  type,
  label: `SCSI controller ${busNumber}`,
  busNumber,
  ...more,
})
const at = (controllerKey: number, unitNumber: number, type = 'VirtualDisk'): DeviceRef => ({
  key: controllerKey * 100 + unitNumber,
  type,
  label: `${type} ${unitNumber}`,
  controllerKey,
  unitNumber,
})
const units = (controllerKey: number, ...taken: number[]): DeviceRef[] => taken.map((unit) => at(controllerKey, unit))
const ALL = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]

describe('the slot of a disk to be attached', () => {
  test('is the first free unit of the lowest bus', () => {
    expect(freeSlot([controller(1001, 1), controller(1000, 0), ...units(1000, 0, 2)])).toEqual({ controllerKey: 1000, unit: 1 })
  })

  test('is never unit 7, which is the controller itself', () => {
    expect(freeSlot([controller(1000, 0), ...units(1000, 0, 1, 2, 3, 4, 5, 6)])).toEqual({ controllerKey: 1000, unit: 8 })
  })

  test('is none that something else than a disk sits on', () => {
    expect(freeSlot([controller(1000, 0), at(1000, 0, 'VirtualCdrom')])).toEqual({ controllerKey: 1000, unit: 1 })
  })

  test('is on the next controller when one is full, and on a new one when all are', () => {
    const full = [controller(1000, 0), ...units(1000, ...ALL)]
    expect(freeSlot([...full, controller(1002, 2)])).toEqual({ controllerKey: 1002, unit: 0 })
    expect(freeSlot([...full, controller(1002, 2), ...units(1002, ...ALL)])).toEqual({ newBus: 1, unit: 0 })
  })

  test('is none when four controllers are full', () => {
    expect(freeSlot([0, 1, 2, 3].flatMap((bus) => [controller(1000 + bus, bus), ...units(1000 + bus, ...ALL)]))).toBeUndefined()
  })

  test('is on an NVMe controller when SCSI ones are full or missing, unit 7 too, before a new controller is made', () => {
    const nvme = controller(31_000, 0, 'VirtualNVMEController')
    const full = [controller(1000, 0), ...units(1000, ...ALL)]
    expect(freeSlot([nvme, ...full, controller(1001, 1, 'VirtualLsiLogicController')])).toEqual({ controllerKey: 1001, unit: 0 })
    expect(freeSlot([nvme, ...full])).toEqual({ controllerKey: 31_000, unit: 0 })
    expect(freeSlot([nvme, ...units(31_000, 0, 1, 2, 3, 4, 5, 6)])).toEqual({ controllerKey: 31_000, unit: 7 })
    const fourteen = [nvme, ...units(31_000, 7, ...ALL.slice(0, -1))]
    expect(freeSlot(fourteen)).toEqual({ newBus: 0, unit: 0 })
    expect(freeSlot([...fourteen, controller(31_001, 1, 'VirtualNVMEController')])).toEqual({ controllerKey: 31_001, unit: 0 })
  })

  test('is on no NVMe controller where their disks show no uuid', () => {
    expect(freeSlot([controller(31_000, 0, 'VirtualNVMEController')], false)).toEqual({ newBus: 0, unit: 0 })
  })

  test('is ParaVirtual before other SCSI, whatever the buses', () => {
    const lsi = controller(1000, 0, 'VirtualLsiLogicSASController')
    expect(freeSlot([lsi, controller(1001, 1)])).toEqual({ controllerKey: 1001, unit: 0 })
    expect(freeSlot([lsi, controller(1001, 1), ...units(1001, ...ALL)])).toEqual({ controllerKey: 1000, unit: 0 })
  })

  test('is on none that is shared with other VMs, takes no disk of a running VM, or is no SCSI controller; their buses count', () => {
    const others = [
      controller(1000, 0, 'VirtualLsiLogicSASController', { sharedBus: 'physicalSharing' }),
      controller(1001, 1, 'VirtualBusLogicController'),
      controller(31_000, 0, 'VirtualNVMEController', { sharedBus: 'physicalSharing' }),
      controller(15_000, 2, 'VirtualAHCIController'),
    ]
    expect(freeSlot(others)).toEqual({ newBus: 2, unit: 0 })
    expect(freeSlot([...others, controller(1003, 3, 'VirtualLsiLogicController', { sharedBus: 'noSharing' })])).toEqual({
      controllerKey: 1003,
      unit: 0,
    })
  })

  test('is always free and takes no unit 7, whatever is there', () => {
    const device = fc.record({ bus: fc.nat(3), unit: fc.nat(15), type: fc.constantFrom('VirtualDisk', 'VirtualCdrom') })
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(3)), fc.array(device, { maxLength: 70 }), (buses, taken) => {
        const devices = [
          ...buses.map((bus) => controller(1000 + bus, bus)),
          ...taken.filter(({ bus }) => buses.includes(bus)).map(({ bus, unit, type }) => at(1000 + bus, unit, type)),
        ]
        const slot = freeSlot(devices)
        if (slot === undefined) expect(buses).toHaveLength(4)
        else if (slot.newBus !== undefined) expect(buses).not.toContain(slot.newBus)
        else {
          expect(slot.unit).not.toBe(7)
          expect(devices.filter((each) => each.controllerKey === slot.controllerKey && each.unitNumber === slot.unit)).toEqual([])
        }
      }),
      { numRuns: 300 },
    )
  })
})
