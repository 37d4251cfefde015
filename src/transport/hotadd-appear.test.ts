import { describe, expect, test } from 'vitest'
import { appeared, cameInstead, type WantedDisk } from './hotadd-appear.ts'
import type { GuestDisk } from './hotadd-guest.ts'

const wanted: WantedDisk = { fileName: '[ds] web/web.vmdk', uuid: 'a'.repeat(32), capacityBytes: 4096, unit: 3, bus: 'scsi' }
const disk = (address: string, name: string, uuid?: string, size = 4096): GuestDisk => ({
  bus: 'scsi',
  address,
  name,
  unit: Number(address.split(':')[2]),
  uuid,
  size,
})
const namespace = (name: string, unit: number): GuestDisk => ({ bus: 'nvme', address: name, name, unit, uuid: undefined, size: 4096 })
const own = disk('2:0:0:0', 'sda', 'b'.repeat(32))

describe('the disk that was attached', () => {
  test('is the one that has its uuid, on whatever host, unit and name it came', () => {
    const there = disk('5:0:9:0', 'sdz', wanted.uuid)
    expect(appeared(wanted, [own, there, disk('2:0:3:0', 'sdb', 'c'.repeat(32))])).toBe(there)
  })

  test('is not there yet while nothing has the uuid: neither the newest disk nor the only one with the size is taken', () => {
    expect(appeared(wanted, [own, disk('2:0:3:0', 'sdb'), disk('2:0:4:0', 'sdc', 'c'.repeat(32))])).toBeUndefined()
  })

  test('of another size, or twice, is refused', () => {
    expect(() => appeared(wanted, [own, disk('2:0:3:0', 'sdb', wanted.uuid, 4608)])).toThrow(/not \[ds\] web.*4608 bytes.*4096/)
    expect(() => appeared(wanted, [disk('2:0:3:0', 'sdb', wanted.uuid), disk('3:0:3:0', 'sdc', wanted.uuid)])).toThrow(/sdb and sdc/)
  })

  test('another that came at its unit is told, one that was there before or came elsewhere is not', () => {
    const before = [own, disk('3:0:3:0', 'sdb', 'd'.repeat(32))]
    const other = disk('2:0:3:0', 'sdc', 'c'.repeat(32))
    expect(cameInstead(wanted, before, [...before, other])).toBe(other)
    expect(cameInstead(wanted, before, [...before, disk('2:0:4:0', 'sdc', 'c'.repeat(32))])).toBeUndefined()
    expect(cameInstead(wanted, before, [own])).toBeUndefined()
    expect(cameInstead(wanted, before, [...before, namespace('nvme0n4', 3)])).toBeUndefined()
    expect(cameInstead({ ...wanted, bus: 'nvme' }, before, [...before, other, namespace('nvme0n4', 3)])?.name).toBe('nvme0n4')
  })
})
