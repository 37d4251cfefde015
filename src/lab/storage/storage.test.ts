import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MIB, SECTOR } from '../../core/index.ts'
import { parseDescriptor } from './descriptor.ts'
import {
  copyDisk,
  createDisk,
  createRdm,
  Datastore,
  deleteDisk,
  digestOf,
  diskChain,
  diskInfo,
  importStream,
  LabDisk,
  LabStorageError,
  locksOf,
  moveDisk,
  openView,
  parseDatastorePath,
  formatDatastorePath,
  VmxFile,
  vmxOf,
  writeVmFiles,
} from './index.ts'
import { SE_SET, seEntry, seGrain, seType } from './se-entry.ts'

let root: string
let ds: Datastore
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lab-storage-'))
  ds = new Datastore({ name: 'ds 1', type: 'VMFS6', directory: join(root, 'ds') })
  ds.create()
  mkdirSync(ds.path('vm'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))
const spec = { path: 'vm/x.vmdk', capacityBytes: 8 * MIB, thin: true, adapterType: 'lsilogic' } as const
const failing = (failure: string): unknown => expect.objectContaining({ failure })

describe('datastore paths', () => {
  it('are parsed and written', () => {
    expect(parseDatastorePath('[ds 1] dir/x.vmdk')).toEqual({ datastore: 'ds 1', path: 'dir/x.vmdk' })
    expect(parseDatastorePath('[ds]')).toEqual({ datastore: 'ds', path: '' })
    expect(formatDatastorePath('ds 1', 'a b/c')).toBe('[ds 1] a b/c')
    expect(() => parseDatastorePath('dir/x.vmdk')).toThrow(failing('InvalidDatastorePath'))
  })

  it('never leave the datastore', () => {
    symlinkSync('/etc', join(ds.directory, 'out'))
    for (const path of ['../x', 'a/../../x', '/etc/passwd', 'a\0b', 'out/passwd', 'a\nb']) {
      expect(() => ds.path(path), path).toThrow(failing('InvalidDatastorePath'))
    }
    expect(ds.path('a/./b')).toBe(join(ds.directory, 'a/b'))
  })
})

describe('VMX', () => {
  it('keeps any text through writing and parsing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (value) => {
        const text = value.toWellFormed()
        expect(VmxFile.parse(new VmxFile().set('annotation', text).format()).get('ANNOTATION')).toBe(text)
      }),
      { seed: 3 },
    )
    expect(new VmxFile().set('displayName', 'a "b" |c\n').format()).toContain('displayName = "a |22b|22 |7Cc|0A"')
  })

  it('is written with its files and names its disks', () => {
    const vmx = vmxOf({
      name: 'web "1"/x',
      guestId: 'debian11_64Guest',
      hardwareVersion: 19,
      firmware: 'efi',
      numCpu: 2,
      memoryMb: 512,
      biosUuid: '421b5c00-0000-1111-2222-333344445555',
      instanceUuid: '501b5c00-0000-1111-2222-333344445555',
      controllers: [{ bus: 'scsi', busNumber: 0, virtualDev: 'pvscsi' }],
      disks: [
        {
          bus: 'scsi',
          busNumber: 0,
          unitNumber: 1,
          fileName: 'x.vmdk',
          mode: 'independent-persistent',
          ctkEnabled: true,
          deviceType: 'scsi-hardDisk',
        },
      ],
      ethernet: [{ virtualDev: 'vmxnet3', networkName: 'VM Network', macAddress: '00:50:56:aa:bb:cc' }],
      ctkEnabled: true,
    })
    writeVmFiles(ds, 'vm', 'web', vmx)
    const read = VmxFile.parse(readFileSync(ds.path('vm/web.vmx'), 'utf8'))
    expect(read.get('uuid.bios')).toBe('42 1b 5c 00 00 00 11 11-22 22 33 33 44 44 55 55')
    expect(read.get('displayName')).toBe('web "1"/x')
    expect(read.get('guestOS')).toBe('debian11-64')
    expect(read.disks()).toMatchObject([{ busNumber: 0, unitNumber: 1, mode: 'independent-persistent', ctkEnabled: true }])
    expect(readFileSync(ds.path(`vm/${read.get('nvram') ?? ''}`)).length).toBeGreaterThan(1000)
  })
})

describe('disks', () => {
  it('are made as ESXi describes them, and nothing is overwritten', () => {
    const info = createDisk(ds, { ...spec, uuid: '6000c29a-0011-2233-4455-66778899aabb' })
    expect(info).toMatchObject({
      createType: 'vmfs',
      capacityBytes: 8 * MIB,
      thin: true,
      uuid: '60 00 c2 9a 00 11 22 33-44 55 66 77 88 99 aa bb',
    })
    const text = readFileSync(ds.path(spec.path), 'utf8')
    expect(text).toContain('RW 16384 VMFS "x-flat.vmdk"')
    expect(text).toMatch(new RegExp(`ddb.longContentID = "[0-9a-f]{24}${info.cid}"`))
    expect(() => createDisk(ds, spec)).toThrow(failing('FileAlreadyExists'))
    expect(() => createDisk(ds, { ...spec, path: 'none/x.vmdk' })).toThrow(failing('FileNotFound'))
    expect(diskInfo(ds, spec.path)).toEqual(info)
  })

  it('are copied, moved and deleted with all their files', async () => {
    createDisk(ds, spec)
    using disk = LabDisk.open(ds, spec.path)
    disk.addRedoLog()
    disk.write(MIB, new Uint8Array(SECTOR).fill(7))
    const digest = await digestOf(disk)
    await copyDisk(ds, disk.top, ds, 'vm/copy.vmdk')
    await moveDisk(ds, 'vm/copy.vmdk', ds, 'vm/moved.vmdk')
    expect(() => diskInfo(ds, 'vm/copy.vmdk')).toThrow(failing('FileNotFound'))
    using view = openView(ds, 'vm/moved.vmdk')
    expect(await digestOf(view)).toEqual(digest)
    deleteDisk(ds, 'vm/moved.vmdk')
    expect(() => readFileSync(ds.path('vm/moved-flat.vmdk'))).toThrow('ENOENT')
    deleteDisk(ds, 'vm/moved.vmdk')
  })

  it('refuse a broken chain, a device mapping, and an escape', () => {
    createDisk(ds, spec)
    const disk = LabDisk.open(ds, spec.path)
    const { top } = disk.addRedoLog()
    disk[Symbol.dispose]()
    const text = readFileSync(ds.path(spec.path), 'utf8')
    writeFileSync(ds.path(spec.path), text.replace(/^CID=.*/m, 'CID=12345678'))
    expect(() => diskChain(ds, top)).toThrow(failing('InvalidDisk'))
    writeFileSync(ds.path(spec.path), text.replace('x-flat.vmdk', '../../../etc/passwd'))
    expect(() => LabDisk.open(ds, top)).toThrow(LabStorageError)
    createRdm(ds, { ...spec, path: 'vm/rdm.vmdk', physical: true })
    expect(diskInfo(ds, 'vm/rdm.vmdk').backing).toBe('rdmPhysical')
    expect(() => LabDisk.open(ds, 'vm/rdm.vmdk')).toThrow(failing('InvalidDisk'))
  })

  it('are locked by who runs them: the current link alone, its parents shared', () => {
    createDisk(ds, spec)
    using disk = LabDisk.open(ds, spec.path)
    disk.tracking.enable()
    disk.addRedoLog()
    expect(locksOf([{ holder: 'esx1', disks: [disk] }])).toEqual([
      { path: 'vm/x-000001-sesparse.vmdk', mode: 'exclusive', datastore: 'ds 1', holder: 'esx1' },
      { path: 'vm/x-flat.vmdk', mode: 'shared', datastore: 'ds 1', holder: 'esx1' },
      { path: 'vm/x-ctk.vmdk', mode: 'exclusive', datastore: 'ds 1', holder: 'esx1' },
    ])
  })

  it('grow at their end', () => {
    createDisk(ds, spec)
    const small = LabDisk.open(ds, spec.path)
    small.tracking.enable()
    const before = small.tracking.changeId ?? ''
    using disk = small.grow(16 * MIB)
    disk.write(16 * MIB - SECTOR, new Uint8Array(SECTOR).fill(1))
    expect(diskInfo(ds, spec.path).capacityBytes).toBe(16 * MIB)
    expect(() => disk.tracking.areas({ changeId: before, startOffset: 0 })).toThrow(failing('UnknownChangeId'))
  })
})

describe('change tracking', () => {
  it('answers from changeId to snapshot, survives a restart, and says when it cannot', () => {
    createDisk(ds, spec)
    let disk = LabDisk.open(ds, spec.path)
    expect(() => disk.tracking.areas({ changeId: '*', startOffset: 0 })).toThrow(failing('NoTrack'))
    const early = disk.addRedoLog()
    expect(early.changeId).toBeUndefined()
    disk.tracking.enable()
    disk.write(0, new Uint8Array(SECTOR).fill(1))
    const one = disk.addRedoLog().changeId ?? ''
    expect(one).toMatch(/^([0-9a-f]{2} ){7}[0-9a-f]{2}-([0-9a-f]{2} ){7}[0-9a-f]{2}\/\d+$/)
    disk.write(5 * 65536 + SECTOR, new Uint8Array(65536).fill(2))
    const two = disk.addRedoLog().changeId ?? ''
    disk.write(7 * MIB, new Uint8Array(SECTOR).fill(3))
    const { top } = disk
    disk[Symbol.dispose]()
    disk = LabDisk.open(ds, top)
    const { tracking } = disk
    const all = 8 * MIB
    expect(tracking.areas({ changeId: one, until: two, startOffset: 0 })).toEqual({
      startOffset: 0,
      length: all,
      areas: [{ start: 5 * 65536, length: 2 * 65536 }],
    })
    expect(tracking.areas({ changeId: two, startOffset: 0 }).areas).toEqual([{ start: 7 * MIB, length: 65536 }])
    expect(tracking.areas({ changeId: two, until: two, startOffset: 0 })).toEqual({ startOffset: 0, length: all, areas: [] })
    expect(tracking.areas({ changeId: '*', startOffset: 0 }).areas).toHaveLength(3)
    expect(tracking.areas({ changeId: one, startOffset: 0, maxAreas: 1 })).toMatchObject({ length: 7 * 65536 })
    expect(() => tracking.areas({ changeId: two, until: one, startOffset: 0 })).toThrow(failing('UnknownChangeId'))
    expect(() => tracking.areas({ changeId: one, startOffset: all })).toThrow(failing('InvalidOffset'))
    expect(() => tracking.areas({ changeId: '52 de/3', startOffset: 0 })).toThrow(failing('UnknownChangeId'))
    tracking.reset()
    expect(() => tracking.areas({ changeId: one, startOffset: 0 })).toThrow(failing('UnknownChangeId'))
    expect(() => tracking.areas({ changeId: '*', until: two, startOffset: 0 })).toThrow(failing('NoEpoch'))
    disk[Symbol.dispose]()
    writeFileSync(ds.path('vm/x-ctk.vmdk'), 'rubbish')
    disk = LabDisk.open(ds, top)
    expect(() => disk.tracking.areas({ changeId: '*', startOffset: 0 })).toThrow(failing('CannotGetChanges'))
    disk.tracking.disable()
    expect(diskInfo(ds, top).changeTrackPath).toBeUndefined()
    disk[Symbol.dispose]()
  })

  it('is truthful when a kill cut its last record', () => {
    createDisk(ds, spec)
    const disk = LabDisk.open(ds, spec.path)
    disk.tracking.enable()
    const id = disk.addRedoLog().changeId ?? ''
    disk.write(0, new Uint8Array(SECTOR).fill(1))
    disk.write(MIB, new Uint8Array(SECTOR).fill(1))
    const { top } = disk
    disk[Symbol.dispose]()
    const file = ds.path('vm/x-ctk.vmdk')
    truncateSync(file, readFileSync(file).length - 7)
    using again = LabDisk.open(ds, top)
    again.write(2 * MIB, new Uint8Array(SECTOR).fill(1))
    expect(again.tracking.areas({ changeId: id, startOffset: 0 }).areas.map(({ start }) => start)).toEqual([0, 2 * MIB])
  })
})

describe('foreign input', () => {
  it('never makes a parser do anything but answer or refuse', async () => {
    createDisk(ds, spec)
    const text = readFileSync(ds.path(spec.path), 'utf8')
    fc.assert(
      fc.property(fc.nat(text.length), fc.string({ maxLength: 20 }), (at, rubbish) => {
        for (const parse of [() => parseDescriptor(text.slice(0, at) + rubbish + text.slice(at), 'x'), () => VmxFile.parse(rubbish)]) {
          try {
            parse()
          } catch (error) {
            expect(error).toBeInstanceOf(LabStorageError)
          }
        }
      }),
      { seed: 5, numRuns: 300 },
    )
    using disk = LabDisk.open(ds, spec.path)
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 0, maxLength: 3000 }), async (bytes) => {
        const source = async function* (): AsyncGenerator<Uint8Array> {
          await Promise.resolve()
          yield bytes
        }
        await expect(importStream(source(), disk)).rejects.toMatchObject({ failure: 'BadStream' })
      }),
      { seed: 5, numRuns: 100 },
    )
  })

  it('keeps SE-sparse indexes of any size', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 36), (index) => {
        const table = new Uint32Array(2)
        seEntry(table, 0, SE_SET, index)
        expect([seType(table[1] ?? 0), seGrain(table[0] ?? 0, table[1] ?? 0)]).toEqual([SE_SET, index])
      }),
    )
  })
})
