import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { goldenVolume } from '../../../test/golden-volume.ts'
import { type BlockSource, isAgentError } from '../../core/index.ts'
import { memorySource } from '../../disk/index.ts'
import { lvmCrc } from './lvm-physical.ts'
import { readVolumes } from './read-volumes.ts'
import type { Volume } from './volume.ts'

const MIB = 1024 * 1024
const MAGIC = '\x20LVM2\x20x[5A%r0N*>'
const read = (...sources: readonly BlockSource[]): Promise<readonly Volume[]> =>
  readVolumes(sources.map((source, index) => ({ key: 2000 + index, label: `Hard disk ${index + 1}`, source })))

async function bytesOf(source: BlockSource): Promise<Buffer> {
  const bytes = Buffer.alloc(source.size)
  await source.read(0, bytes)
  return bytes
}
const digest = async (source: BlockSource): Promise<string> =>
  createHash('sha256')
    .update(await bytesOf(source))
    .digest('hex')

describe('logical volumes made by lvcreate', () => {
  const SUMS = {
    'guest-vg-root': '9ad359f5af2c3c6b55ad75061d58a3cf9f22beb57c76059498b2f17cc388b692',
    'guest-vg-home': 'c0453994c7568c04070e683f1ad53ab329123e57c499836ab2e66e2542affdf9',
    'guest-vg-fast': '53975496914bc9f867eec2fa52cfd685c14a433c05e8c1ef67304fa5a5435c9b',
  }

  it('are put together of two disks, in whatever order these come', async () => {
    for (const disks of [
      ['lvm-a', 'lvm-b'],
      ['lvm-b', 'lvm-a'],
    ]) {
      const volumes = await read(...disks.map((name) => goldenVolume(name)))
      expect(volumes.map((volume) => [volume.number, volume.name])).toEqual([
        [1, 'disk0'],
        [2, 'disk1'],
        [3, 'guest-vg-root'],
        [4, 'guest-vg-home'],
        [5, 'guest-vg-fast'],
      ])
      const logical = volumes.slice(2)
      expect(Object.fromEntries(await Promise.all(logical.map(async ({ name, source }) => [name, await digest(source)])))).toEqual(SUMS)
      expect(logical.map(({ content }) => content.kind === 'file-system' && content.label)).toEqual(['lv-root', 'lv-home', 'lv-fast'])
      expect(logical[0]?.logical).toEqual({ group: 'guest-vg', name: 'root' })
    }
  })

  it('read in odd pieces across their seams as they do at once', async () => {
    for (const volume of (await read(goldenVolume('lvm-a'), goldenVolume('lvm-b'))).slice(2)) {
      const whole = await bytesOf(volume.source)
      for (const [offset, length] of [
        [6 * MIB - 1, 2],
        [65_535, 200_001],
        [3 * MIB - 100, MIB],
        [volume.source.size - 1, 1],
      ] as const) {
        if (offset + length > volume.source.size) continue
        const part = Buffer.alloc(length)
        await volume.source.read(offset, part)
        expect(part.equals(whole.subarray(offset, offset + length))).toBe(true)
      }
      let at = 1000
      for await (const extent of volume.source.extents({ offset: 1000, length: volume.source.size - 2000 })) {
        expect(extent.offset).toBe(at)
        at += extent.length
      }
      expect(at).toBe(volume.source.size - 1000)
      await expect(volume.source.read(volume.source.size, Buffer.alloc(1))).rejects.toMatchObject({ code: 'USAGE' })
    }
  })

  it('of which a disk is missing are refused by name, the others are read', async () => {
    const contents = Object.fromEntries((await read(goldenVolume('lvm-b'))).map(({ name, content }) => [name, content]))
    expect(contents['guest-vg-root']).toMatchObject({ kind: 'refused', what: 'incomplete volume group' })
    expect(contents['guest-vg-fast']).toMatchObject({ kind: 'refused', what: 'incomplete volume group' })
    expect(contents['guest-vg-home']).toMatchObject({ kind: 'file-system', label: 'lv-home' })
  })

  it('of a group that is there twice are refused', async () => {
    const volumes = await read(goldenVolume('lvm-a'), goldenVolume('lvm-b'), goldenVolume('lvm-b'))
    expect(volumes.slice(3).map(({ content }) => content)).toMatchObject(
      Array.from({ length: 3 }, () => ({ kind: 'refused', what: 'volume group twice' })),
    )
  })
})

describe('metadata of a group, written by the test', () => {
  const ID = 'abcdefghijklmnopqrstuvwxyz012345'
  const BODY = (volumes: string, sequence = 1): string =>
    `vg { id = "g" seqno = ${sequence} extent_size = 8 physical_volumes { pv0 { id = "${ID}" pe_start = 2048 pe_count = 100 } }
     logical_volumes { ${volumes} } }`
  const lv = (name: string, segment: string, status = '"VISIBLE"'): string =>
    `${name} { status = ["READ", ${status}] segment_count = 1 segment1 { start_extent = 0 extent_count = 4 ${segment} } }`
  const LINEAR = 'type = "striped" stripe_count = 1 stripes = ["pv0", 3]'

  /** `at`: where in the ring the text begins. */
  function physical(text: string, at = 512, ring = MIB - 4096): Buffer {
    const disk = Buffer.alloc(2 * MIB)
    disk.write('LABELONE', 512, 'latin1')
    disk.writeBigUInt64LE(1n, 520)
    disk.writeUInt32LE(32, 532)
    disk.write('LVM2 001', 536, 'latin1')
    disk.write(ID, 544, 'latin1')
    disk.writeBigUInt64LE(BigInt(disk.length), 576)
    disk.writeBigUInt64LE(BigInt(MIB), 584)
    disk.writeBigUInt64LE(4096n, 616)
    disk.writeBigUInt64LE(BigInt(ring), 624)
    disk.writeUInt32LE(lvmCrc(disk.subarray(532, 1024)), 528)
    const bytes = Buffer.from(`${text}\0`)
    const first = Math.min(bytes.length, ring - at)
    bytes.copy(disk, 4096 + at, 0, first)
    bytes.copy(disk, 4096 + 512, first)
    disk.write(MAGIC, 4100, 'latin1')
    disk.writeUInt32LE(1, 4116)
    disk.writeBigUInt64LE(4096n, 4120)
    disk.writeBigUInt64LE(BigInt(ring), 4128)
    disk.writeBigUInt64LE(BigInt(at), 4136)
    disk.writeBigUInt64LE(BigInt(bytes.length), 4144)
    disk.writeUInt32LE(lvmCrc(bytes), 4152)
    disk.writeUInt32LE(lvmCrc(disk.subarray(4100, 4608)), 4096)
    return disk
  }
  const logical = async (text: string, at?: number): Promise<[string, Volume['content']][]> =>
    (await read(memorySource(physical(text, at)))).slice(1).map(({ name, content }) => [name, content])

  it('that wraps round the end of its ring is read', async () => {
    expect(await logical(BODY(lv('one', LINEAR)), MIB - 4096 - 50)).toEqual([['vg-one', { kind: 'none', what: 'empty' }]])
  })

  it.each([
    ['thin', 'thin volume'],
    ['thin-pool', 'thin pool'],
    ['raid1', 'LVM raid1'],
    ['cache', 'LVM cache'],
    ['mirror', 'LVM mirror'],
    ['vdo', 'LVM vdo'],
  ])('of the kind %s is refused by that name', async (type, what) => {
    expect(await logical(BODY(lv('one', `type = "${type}"`)))).toMatchObject([['vg-one', { kind: 'refused', what }]])
  })

  it('of a snapshot: its store is no volume, its origin is; hidden parts are not listed', async () => {
    const text = BODY(
      [lv('origin', LINEAR), lv('snap', LINEAR), lv('snapshot0', 'type = "snapshot" cow_store = "snap" origin = "origin"', '"X"')].join(
        '\n',
      ),
    )
    expect(await logical(text)).toMatchObject([
      ['vg-origin', { kind: 'none' }],
      ['vg-snap', { kind: 'refused', what: 'LVM snapshot' }],
    ])
  })

  it.each([
    ['a physical volume it does not list', 'type = "striped" stripe_count = 1 stripes = ["pv9", 3]'],
    ['more extents than there are', 'type = "striped" stripe_count = 1 stripes = ["pv0", 97]'],
    ['extents behind the end of the disk', 'type = "striped" stripe_count = 1 stripes = ["pv0", 255]'],
    ['a number beyond all', 'type = "striped" stripe_count = 1 stripes = ["pv0", 99999999999999999999]'],
    ['stripes that do not divide', 'type = "striped" stripe_count = 3 stripe_size = 8 stripes = ["pv0", 0, "pv0", 2, "pv0", 3]'],
    ['no stripes', 'type = "striped" stripe_count = 0 stripes = []'],
  ])('with %s is refused', async (_, segment) => {
    expect(await logical(BODY(lv('one', segment)))).toMatchObject([['vg-one', { kind: 'refused', what: 'damaged logical volume' }]])
  })

  it('that is damaged, by its checksum or as a text, leaves a physical volume that is refused', async () => {
    for (const text of ['vg { id = "g" seqno = 1', '}', 'vg = {', '"', 'vg { '.repeat(20), BODY(lv('__proto__', LINEAR)).slice(0, -1)]) {
      const [volume, ...more] = await read(memorySource(physical(text)))
      expect(volume?.content).toMatchObject({ kind: 'refused', what: 'LVM physical volume' })
      expect(more).toEqual([])
    }
    const torn = physical(BODY(lv('one', LINEAR)))
    torn[4096 + 600] = 0
    expect((await read(memorySource(torn)))[0]?.content.kind).toBe('refused')
  })

  it('calls a volume whatever it likes: the name stays a file name, and unique', async () => {
    const names = (await logical(BODY([lv('../../etc', LINEAR), lv('__proto__', LINEAR), lv('constructor', LINEAR)].join('\n')))).map(
      ([name]) => name,
    )
    expect(names).toEqual(['vg-..%2F..%2Fetc', 'vg-__proto__', 'vg-constructor'])
  })
})

describe('an NTFS volume', () => {
  const ntfs = async (change: (partition: Buffer, clusterBytes: number, mft: number) => void): Promise<Volume['content'] | undefined> => {
    const disk = await bytesOf(goldenVolume('ntfs', 'guest-disks'))
    const partition = disk.subarray(MIB)
    const clusterBytes = partition.readUInt16LE(11) * partition.readUInt8(13)
    change(partition, clusterBytes, Number(partition.readBigUInt64LE(48)) * clusterBytes)
    return (await read(memorySource(disk)))[0]?.content
  }
  const attribute = (partition: Buffer, record: number, type: number): number => {
    for (let at = record + partition.readUInt16LE(record + 20); ; at += partition.readUInt32LE(at + 4))
      if (partition.readUInt32LE(at) === type) return at
  }

  it('is clean as mkntfs leaves it, and says what is not told', async () => {
    const content = await ntfs(() => {})
    expect(content).toMatchObject({ kind: 'file-system', type: 'ntfs', label: 'labdata', dirty: false })
    expect(content?.kind === 'file-system' && content.note).toContain('hiberfil.sys')
  })

  it('with the dirty flag is dirty, and one whose $Volume is damaged too', async () => {
    const flagged = await ntfs((partition, _, mft) => {
      const at = attribute(partition, mft + 3 * 1024, 0x70)
      partition.writeUInt16LE(1, at + partition.readUInt16LE(at + 20) + 10)
    })
    expect(flagged).toMatchObject({ dirty: true, label: 'labdata' })
    expect(await ntfs((partition, _, mft) => partition.writeUInt16LE(0x1234, mft + 3 * 1024 + 510))).toMatchObject({ dirty: true })
  })

  it('whose log has a client in use is dirty, unless it says that it was closed', async () => {
    const log = (flags: number) => (partition: Buffer, clusterBytes: number, mft: number) => {
      const at = attribute(partition, mft + 2 * 1024, 0x80)
      const run = at + partition.readUInt16LE(at + 32)
      const [count, place] = [partition.readUInt8(run) & 15, partition.readUInt8(run) >> 4]
      const page = partition.subarray(partition.readUIntLE(run + 1 + count, place) * clusterBytes)
      for (const start of [0, 4096]) {
        page.fill(0, start, start + 4096)
        page.write('RSTR', start)
        page.writeUInt32LE(4096, start + 16)
        page.writeUInt16LE(0x30, start + 24)
        page.writeBigInt64LE(BigInt(start), start + 0x30)
        page.writeUInt16LE(0, start + 0x30 + 12)
        page.writeUInt16LE(start === 0 ? 2 : flags, start + 0x30 + 14)
      }
    }
    expect(await ntfs(log(0))).toMatchObject({ dirty: true })
    expect(await ntfs(log(2))).toMatchObject({ dirty: false })
  })
})

it('two disks with one key are refused', async () => {
  const disk = { key: 1, label: 'd', source: memorySource(Buffer.alloc(512)) }
  await expect(readVolumes([disk, disk])).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
})

it('disks of nothing, of a few bytes and of one kind that is named', async () => {
  const marked = (at: number, mark: string | Buffer): Buffer => {
    const disk = Buffer.alloc(2 * MIB)
    disk.set(typeof mark === 'string' ? Buffer.from(mark, 'latin1') : mark, at)
    return disk
  }
  const what = async (disk: Buffer): Promise<string> => {
    const content = (await read(memorySource(disk)))[0]?.content
    return content === undefined || content.kind === 'file-system' ? 'a file system' : `${content.kind} ${content.what}`
  }
  expect(await what(Buffer.alloc(0))).toBe('none empty')
  expect(await what(Buffer.alloc(100, 7))).toBe('none unknown')
  expect(await what(marked(3, '-FVE-FS-'))).toBe('refused BitLocker')
  const refs = marked(3, 'ReFS\0\0\0\0')
  refs.write('FSRS', 16)
  expect(await what(refs)).toBe('refused ReFS')
  const md = Buffer.from('fc4e2ba901000000', 'hex')
  for (const at of [0, 4096, 2 * MIB - 8192]) expect(await what(marked(at, md))).toBe('refused md-RAID')
  expect(await what(marked(2 * MIB - 65_536, md))).toBe('refused md-RAID')
  expect(await what(marked(32, 'NXSB'))).toBe('refused APFS')
  expect(await what(marked(130 * 1024, Buffer.from('0cb1ba0000000000', 'hex')))).toBe('refused ZFS')
  expect(await what(marked(MIB, Buffer.from('0dd001c0', 'hex')))).toBe('refused VMFS')
})
