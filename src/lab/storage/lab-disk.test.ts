import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GIB, MIB, SECTOR } from '../../core/index.ts'
import {
  childrenOf,
  createDisk,
  Datastore,
  type DatastoreType,
  diskChain,
  diskInfo,
  digestOf,
  LabDisk,
  LabStorageError,
  openView,
} from './index.ts'

const SIZE = 5 * MIB + 3 * SECTOR
let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lab-disk-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function datastoreOf(type: DatastoreType, capacityBytes?: number): Datastore {
  const datastore = new Datastore({ name: 'ds', type, directory: mkdtempSync(join(root, 'ds-')), capacityBytes })
  mkdirSync(datastore.path('vm'))
  return datastore
}
const spec = { path: 'vm/x.vmdk', capacityBytes: SIZE, thin: true, adapterType: 'lsilogic' } as const

function pattern(length: number, seed: number): Uint8Array {
  return Buffer.alloc(
    length,
    Uint8Array.from({ length: 1021 }, (_, index) => ((index * 31 + seed * 17) % 251) + 1),
  )
}

type Step =
  | { readonly do: 'write'; readonly sector: number; readonly sectors: number; readonly seed: number }
  | { readonly do: 'unmap'; readonly sector: number; readonly sectors: number }
  | { readonly do: 'snapshot' | 'reopen' }
  | { readonly do: 'commit' | 'revert'; readonly which: number; readonly during: number }

const area = { sector: fc.nat(SIZE / SECTOR - 1), sectors: fc.integer({ min: 1, max: 3000 }) }
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), ...area, seed: fc.nat(1000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unmap' as const), ...area }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('snapshot' as const, 'reopen' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('commit' as const, 'revert' as const), which: fc.nat(5), during: fc.nat(50) }) },
)

/** The disk against plain buffers: one for what the guest sees, one for each frozen link. */
async function play(datastore: Datastore, steps: readonly Step[]): Promise<void> {
  createDisk(datastore, spec)
  let disk = LabDisk.open(datastore, spec.path)
  disk.tracking.enable()
  let model: Uint8Array = new Uint8Array(SIZE)
  const frozen = new Map<string, Uint8Array>()
  const changeIds: { id: string; image: Uint8Array }[] = []
  const write = (sector: number, sectors: number, data: Uint8Array | undefined): void => {
    const offset = sector * SECTOR
    const length = Math.min(sectors * SECTOR, SIZE - offset)
    if (data === undefined) disk.unmap({ offset, length })
    else disk.write(offset, data.subarray(0, length))
    model.set(data?.subarray(0, length) ?? new Uint8Array(length), offset)
  }
  try {
    for (const one of steps) {
      if (one.do === 'write') write(one.sector, one.sectors, pattern(one.sectors * SECTOR, one.seed))
      else if (one.do === 'unmap') write(one.sector, one.sectors, undefined)
      else if (one.do === 'snapshot') {
        const added = disk.addRedoLog()
        frozen.set(added.frozen, model.slice())
        if (added.changeId !== undefined) changeIds.push({ id: added.changeId, image: model.slice() })
      } else if (one.do === 'reopen') {
        const { top } = disk
        disk[Symbol.dispose]()
        disk = LabDisk.open(datastore, top)
      } else if (one.do === 'commit' && disk.chain.length > 1) {
        const path = disk.chain[one.which % (disk.chain.length - 1)] ?? ''
        const parent = disk.chain[(one.which % (disk.chain.length - 1)) + 1] ?? ''
        if (childrenOf(datastore, parent).length > 1) {
          await expect(disk.commit(path)).rejects.toMatchObject({ failure: 'FileLocked' })
          continue
        }
        let left = 3
        await disk.commit(path, {
          pause: async () => {
            if (left-- > 0) write(one.during, 40, pattern(40 * SECTOR, one.during))
            await Promise.resolve()
          },
        })
        const content = frozen.get(path)
        if (content === undefined) frozen.delete(parent)
        else frozen.set(parent, content)
        frozen.delete(path)
        expect(() => diskInfo(datastore, path)).toThrow(LabStorageError)
      } else if (one.do === 'revert' && disk.chain.length > 1) {
        const path = disk.chain[1 + (one.which % (disk.chain.length - 1))] ?? ''
        for (const gone of disk.chain.slice(1, disk.chain.indexOf(path))) frozen.delete(gone)
        disk.revert(path)
        model = frozen.get(path)?.slice() ?? model
        changeIds.length = 0
      }
      if (disk.chain.length > 20) break
    }
    const seen = new Uint8Array(SIZE)
    disk.read(0, seen)
    expect(Buffer.compare(seen, model)).toBe(0)
    for (const [path, image] of frozen) {
      if (!disk.chain.includes(path)) continue
      disk.view(path).read(0, seen)
      expect(Buffer.compare(seen, image), path).toBe(0)
    }
    checkTracking(disk, changeIds, model)
  } finally {
    disk[Symbol.dispose]()
  }
  using view = openView(datastore, disk.top)
  const seen = new Uint8Array(SIZE)
  view.read(0, seen)
  expect(Buffer.compare(seen, model)).toBe(0)
  const outside = new Uint8Array(SIZE)
  for (const range of view.allocated()) outside.set(model.subarray(range.offset, range.offset + range.length), range.offset)
  expect(Buffer.compare(outside, model)).toBe(0)
  expect(readdirSync(datastore.path('vm')).filter((name) => name.endsWith('~'))).toEqual([])
}

/** Every byte that differs between two moments lies in an area the query names; and windows cover the disk. */
function checkTracking(disk: LabDisk, changeIds: readonly { id: string; image: Uint8Array }[], model: Uint8Array): void {
  const moments = [...changeIds, { id: undefined, image: model }]
  for (const [index, from] of changeIds.entries()) {
    for (const until of moments.slice(index)) {
      const merged = from.image.slice()
      for (let offset = 0; offset < SIZE; ) {
        const answer = disk.tracking.areas({ changeId: from.id, until: until.id, startOffset: offset, maxAreas: 3 })
        expect(answer.startOffset).toBe(offset)
        expect(answer.length).toBeGreaterThan(0)
        expect(answer.areas.length).toBeLessThanOrEqual(3)
        for (const { start, length } of answer.areas) {
          expect(start >= offset && start + length <= offset + answer.length).toBe(true)
          merged.set(until.image.subarray(start, start + length), start)
        }
        offset += answer.length
      }
      expect(Buffer.compare(merged, until.image)).toBe(0)
    }
  }
}

describe('a disk equals a plain buffer after writes, snapshots, commits and reverts in any order', () => {
  it.each(['NFS', 'VMFS6'] as const)('on %s', async (type) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => play(datastoreOf(type), steps)),
      { seed: 7, numRuns: 60 },
    )
  })
})

describe('redo logs', () => {
  it('follow the CID rules', () => {
    const datastore = datastoreOf('VMFS6')
    const made = createDisk(datastore, spec)
    using disk = LabDisk.open(datastore, spec.path)
    disk.write(0, pattern(SECTOR, 1))
    const first = diskInfo(datastore, spec.path)
    expect(first.cid).not.toBe(made.cid)
    disk.write(0, pattern(SECTOR, 2))
    expect(diskInfo(datastore, spec.path).cid).toBe(first.cid)
    const { top } = disk.addRedoLog()
    expect(diskInfo(datastore, top)).toMatchObject({ parentCid: first.cid, cid: first.cid, createType: 'seSparse', parent: spec.path })
    disk.write(0, pattern(SECTOR, 3))
    expect(diskInfo(datastore, top).cid).not.toBe(first.cid)
    expect(diskInfo(datastore, spec.path).cid).toBe(first.cid)
  })

  it('are COWD on NFS and VMFS5 below 2 TiB, SE-sparse from there on', () => {
    for (const [type, capacityBytes, backing] of [
      ['NFS', 64 * MIB, 'sparse'],
      ['VMFS5', 64 * MIB, 'sparse'],
      ['VMFS6', 64 * MIB, 'seSparse'],
      ['NFS', 2048 * GIB, 'seSparse'],
    ] as const) {
      const datastore = datastoreOf(type)
      createDisk(datastore, { ...spec, capacityBytes })
      using disk = LabDisk.open(datastore, spec.path)
      expect(diskInfo(datastore, disk.addRedoLog().top).backing).toBe(backing)
    }
  })

  it('may be 32 links deep with their base, not more', () => {
    const datastore = datastoreOf('NFS')
    createDisk(datastore, spec)
    using disk = LabDisk.open(datastore, spec.path)
    while (disk.chain.length < 32) disk.addRedoLog()
    expect(() => disk.addRedoLog()).toThrow(expect.objectContaining({ failure: 'TooManyLinks' }))
    expect(diskChain(datastore, disk.top)).toHaveLength(32)
  })

  it('refuse to commit into a link that another disk continues', async () => {
    const datastore = datastoreOf('NFS')
    createDisk(datastore, spec)
    using disk = LabDisk.open(datastore, spec.path)
    disk.addRedoLog()
    using other = LabDisk.open(datastore, spec.path)
    other.addRedoLog('vm/hot-000001.vmdk')
    await expect(disk.commit(disk.top)).rejects.toMatchObject({ failure: 'FileLocked' })
  })

  it('commit while the guest writes, and either chain is right until the VMX is saved', async () => {
    const datastore = datastoreOf('VMFS6')
    createDisk(datastore, spec)
    using disk = LabDisk.open(datastore, spec.path)
    disk.addRedoLog()
    const link = disk.top
    for (let at = 0; at < SIZE - 8192; at += 8192) disk.write(at, pattern(4096, at))
    const images: Uint8Array[] = []
    await disk.commit(link, {
      pause: async () => {
        disk.write(SECTOR * 7, pattern(SECTOR * 3, images.length))
        await Promise.resolve()
      },
      persist: (top) => {
        expect(top).toBe(spec.path)
        disk.write(SECTOR * 70, pattern(SECTOR, 9))
        for (const path of [top, link]) {
          using view = openView(datastore, path)
          const image = new Uint8Array(SIZE)
          view.read(0, image)
          images.push(image)
        }
      },
    })
    const now = new Uint8Array(SIZE)
    disk.read(0, now)
    expect(images).toHaveLength(2)
    for (const image of images) expect(Buffer.compare(image, now)).toBe(0)
    expect(disk.chain).toEqual([spec.path])
    expect(readdirSync(datastore.path('vm')).toSorted()).toEqual(['x-flat.vmdk', 'x.vmdk'])
  })

  it('go on with a commit that failed, also when the VMX could not be saved', async () => {
    const datastore = datastoreOf('NFS')
    createDisk(datastore, spec)
    let disk = LabDisk.open(datastore, spec.path)
    disk.addRedoLog()
    const link = disk.top
    disk.write(0, pattern(MIB, 1))
    await expect(disk.commit(link, { persist: () => Promise.reject(new Error('no vmx')) })).rejects.toThrow('no vmx')
    disk.write(SECTOR, pattern(SECTOR, 5))
    disk[Symbol.dispose]()
    disk = LabDisk.open(datastore, link)
    disk.write(SECTOR * 2, pattern(SECTOR, 6))
    const before = new Uint8Array(SIZE)
    disk.read(0, before)
    await disk.commit(link)
    const after = new Uint8Array(SIZE)
    disk.read(0, after)
    expect(Buffer.compare(before, after)).toBe(0)
    disk[Symbol.dispose]()
  })
})

describe('space', () => {
  it('runs out with NoDiskSpace and leaves the disk readable', () => {
    const datastore = datastoreOf('VMFS6', 3 * MIB)
    createDisk(datastore, spec)
    using disk = LabDisk.open(datastore, spec.path)
    disk.addRedoLog()
    let written = 0
    expect(() => {
      for (; written < SIZE - MIB; written += 65536) disk.write(written, pattern(65536, written))
    }).toThrow(expect.objectContaining({ failure: 'NoDiskSpace' }))
    expect(written).toBeGreaterThan(MIB)
    const seen = new Uint8Array(65536)
    disk.read(written - 65536, seen)
    expect(Buffer.compare(seen, pattern(65536, written - 65536))).toBe(0)
  })

  it('is refused at once when the fault says so, and counts thick disks whole', () => {
    const datastore = datastoreOf('NFS', 64 * MIB)
    createDisk(datastore, { ...spec, thin: false })
    datastore.changed()
    expect(datastore.used()).toBeGreaterThanOrEqual(SIZE)
    using disk = LabDisk.open(datastore, spec.path)
    datastore.full = true
    expect(() => disk.write(0, pattern(SECTOR, 1))).toThrow(expect.objectContaining({ failure: 'NoDiskSpace' }))
    expect(datastore.free()).toBe(0)
  })
})

describe('large and sparse', () => {
  it('a 2 TiB disk with scattered data is listed, digested and committed without reading its empty part', async () => {
    const datastore = datastoreOf('VMFS6')
    createDisk(datastore, { ...spec, capacityBytes: 2048 * GIB })
    using disk = LabDisk.open(datastore, spec.path)
    disk.addRedoLog()
    for (let index = 0; index < 40; index++) disk.write(index * 51 * GIB + 3 * SECTOR, pattern(65536, index))
    const before = await digestOf(disk)
    expect(before.kind).toBe('content')
    expect([...disk.allocated()]).toHaveLength(40)
    await disk.commit(disk.top)
    expect(await digestOf(disk)).toEqual(before)
    expect(datastore.used()).toBeLessThan(64 * MIB)
  })

  it('writes redo logs fast and commits 1 % of 8 GiB in seconds', async () => {
    for (const type of ['NFS', 'VMFS6'] as const) {
      const datastore = datastoreOf(type)
      createDisk(datastore, { ...spec, capacityBytes: 8 * GIB })
      using disk = LabDisk.open(datastore, spec.path)
      disk.addRedoLog()
      const block = pattern(65536, 3)
      const started = performance.now()
      const blocks = (8 * GIB * 0.01) / 65536
      for (let index = 0; index < blocks; index++) disk.write(((index * 7919) % ((8 * GIB) / 65536)) * 65536, block)
      const seconds = (performance.now() - started) / 1000
      expect((blocks * 65536) / MIB / seconds, `${type} MiB/s`).toBeGreaterThan(10)
      const commitStarted = performance.now()
      await disk.commit(disk.top)
      expect((performance.now() - commitStarted) / 1000, `${type} commit`).toBeLessThan(50)
    }
  })
})
