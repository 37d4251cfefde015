import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { goldenVolume } from '../../../test/golden-volume.ts'
import { isAgentError } from '../../core/index.ts'
import { TREE_ROOT, type TreeToServe } from '../../fuse/index.ts'
import { memorySource } from '../../disk/index.ts'
import { openFatTree } from './fat-tree.ts'

/** Every path of a tree with its size and the first bytes of each file; as deep as `levels`. */
async function walk(tree: TreeToServe, levels: number, node = TREE_ROOT, path = ''): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await tree.list(node)) {
    const name = `${path}/${entry.name}`
    if (!entry.directory) {
      const bytes = Buffer.alloc(Math.min(entry.size, 512))
      await tree.read(entry.node, 0, bytes)
      found.set(name, `${entry.size} ${bytes.toString('utf8').trim()}`)
    } else if (levels > 0) for (const [below, text] of await walk(tree, levels - 1, entry.node, name)) found.set(below, text)
  }
  return found
}

/** A FAT12 of 64 clusters of 512 bytes, one FAT of one sector, 16 root entries, written by hand. */
function small(edit: (image: Buffer, fat: (cluster: number, value: number) => void) => void): Buffer {
  const image = Buffer.alloc((1 + 1 + 1 + 64) * 512)
  image.writeUInt16LE(512, 11)
  image.writeUInt8(1, 13)
  image.writeUInt16LE(1, 14)
  image.writeUInt8(1, 16)
  image.writeUInt16LE(16, 17)
  image.writeUInt16LE(67, 19)
  image.writeUInt8(0xf8, 21)
  image.writeUInt16LE(1, 22)
  image.writeUInt16LE(0xaa55, 510)
  edit(image, (cluster, value) => {
    const at = 512 + Math.floor(cluster * 1.5)
    const old = image.readUInt16LE(at)
    image.writeUInt16LE(cluster % 2 === 0 ? (old & 0xf000) | value : (old & 0x000f) | (value << 4), at)
  })
  return image
}

function entry(image: Buffer, at: number, name: string, attributes: number, cluster: number, size: number): void {
  image.fill(' ', at, at + 11)
  image.write(name, at, 11, 'latin1')
  image.writeUInt8(attributes, at + 11)
  image.writeUInt16LE(cluster, at + 26)
  image.writeUInt32LE(size, at + 28)
}

const ROOT = 1024
const cluster = (number: number): number => 1536 + (number - 2) * 512
const damaged = expect.toSatisfy((error) => isAgentError(error, 'INTEGRITY'))

describe('the files of a FAT', () => {
  it('that lie in pieces are put together, and a directory goes on where its chain does', async () => {
    const image = small((bytes, fat) => {
      entry(bytes, ROOT, 'DISK LABEL ', 8, 0, 0)
      entry(bytes, ROOT + 32, 'PIECES  BIN', 0x21, 5, 1100)
      entry(bytes, ROOT + 64, 'SUB        ', 0x10, 10, 0)
      for (const [from, to] of [
        [5, 9],
        [9, 4],
        [4, 0xfff],
        [10, 20],
        [20, 0xff8],
      ] as const)
        fat(from, to)
      bytes.fill('a', cluster(5), cluster(6))
      bytes.fill('b', cluster(9), cluster(10))
      bytes.fill('c', cluster(4), cluster(5))
      for (let index = 0; index < 16; index++) entry(bytes, cluster(10) + 32 * index, `F${index}`, 0x20, 0, 0)
      entry(bytes, cluster(20), 'LAST', 0x20, 0, 0)
    })
    const tree = await openFatTree(memorySource(image))
    const [pieces, sub] = await tree.list(TREE_ROOT)
    expect(pieces).toMatchObject({ name: 'PIECES.BIN', directory: false, size: 1100, allocated: 1536, permissions: 0o555 })
    const whole = Buffer.alloc(1100)
    await tree.read(pieces?.node ?? 0, 0, whole)
    expect(whole.toString()).toBe('a'.repeat(512) + 'b'.repeat(512) + 'c'.repeat(76))
    const part = Buffer.alloc(3)
    await tree.read(pieces?.node ?? 0, 511, part)
    expect(part.toString()).toBe('abb')
    expect((await tree.list(sub?.node ?? 0)).map(({ name }) => name)).toEqual([...Array.from({ length: 16 }, (_, at) => `F${at}`), 'LAST'])
    expect(await tree.find(TREE_ROOT, 'pieces.bin')).toBeUndefined()
  })

  it('are read to the last byte or not at all', async () => {
    const image = small((bytes, fat) => {
      entry(bytes, ROOT, 'SHORT', 0, 5, 1024)
      entry(bytes, ROOT + 32, 'CIRCLE', 0x10, 6, 0)
      entry(bytes, ROOT + 64, 'FREE', 0, 7, 1024)
      entry(bytes, ROOT + 96, 'NONE', 0, 0, 10)
      fat(5, 0xfff)
      fat(6, 6)
    })
    // A directory that never ends.
    image.fill(0xe5, cluster(6), cluster(7))
    const tree = await openFatTree(memorySource(image))
    const [short, circle, free, none] = await tree.list(TREE_ROOT)
    for (const file of [short, free, none])
      await expect(tree.read(file?.node ?? 0, 0, Buffer.alloc(file?.size ?? 0))).rejects.toEqual(damaged)
    await expect(tree.list(circle?.node ?? 0)).rejects.toEqual(damaged)
    await expect(tree.attributes(4711)).rejects.toEqual(damaged)
  })

  it('have names that lead nowhere, each once', async () => {
    const image = small((bytes) => {
      for (const [index, name] of ['A/B', 'A\0B', 'A_B', '\x05BER', 'SAME', 'SAME'].entries())
        entry(bytes, ROOT + 32 * index, name.padEnd(8), 0, 0, 0)
    })
    const tree = await openFatTree(memorySource(image))
    expect((await tree.list(TREE_ROOT)).map(({ name }) => name)).toEqual(['A_B', 'A_B~2', 'A_B~3', 'σBER', 'SAME', 'SAME~2'])
  })

  it('of volumes that mkfs.fat and mtools made are those that were put there', async () => {
    for (const name of ['fat12', 'fat16', 'fat32']) {
      const found = await walk(await openFatTree(goldenVolume(name)), 3)
      expect([name, found.get('/EFI/BOOT/BOOTX64.EFI')]).toEqual([name, '26 firmware starts this, once'])
      expect(found.get('/Übung mit einem langen Namen.txt')).toBe('21 a name beyond 8.3: ü')
      expect(found.get('/empty')).toBe('0 ')
      expect([...found.keys()].filter((path) => path.startsWith('/many/'))).toHaveLength(60)
    }
  })

  it('never make it hang, or throw anything but that it is damaged, whatever its bytes are', async () => {
    const image = Buffer.alloc(goldenVolume('fat12').size)
    await goldenVolume('fat12').read(0, image)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(16_384), fc.nat(255)), { minLength: 1, maxLength: 24 }), async (changes) => {
        const rubbish = Buffer.from(image)
        for (const [at, value] of changes) rubbish[at] = value
        try {
          await walk(await openFatTree(memorySource(rubbish)), 2)
        } catch (error) {
          expect(error).toEqual(damaged)
        }
      }),
      { seed: 4711, numRuns: 300 },
    )
  })
})
