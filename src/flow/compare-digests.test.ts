import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AgentError, type BlockSource, isZero, type Range, rangeEnd } from '../core/index.ts'
import type { ParentDigests } from '../provider/index.ts'
import type { BlockDigest } from '../transport/index.ts'
import { compareDigests, type DigestedDisk } from './compare-digests.ts'

const BLOCK = 4096
const sha256 = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer')

/** Digests of an image, as a parent point has them. */
const parentOf = (image: Uint8Array): ParentDigests => ({
  blockSize: BLOCK,
  of: async (first, count) =>
    Buffer.concat(Array.from({ length: count }, (_, at) => sha256(image.subarray((first + at) * BLOCK, (first + at + 1) * BLOCK)))),
})

type Disk = DigestedDisk & { readonly reads: Range[] }

/** A disk whose far side tells the digests of `image`, changed by `lie` on the way. */
function diskOf(image: Uint8Array, lie: (block: BlockDigest) => BlockDigest | undefined = (block) => block): Disk {
  const reads: Range[] = []
  const source: BlockSource = {
    size: image.length,
    read: async (offset, into) => {
      reads.push({ offset, length: into.length })
      into.set(image.subarray(offset, offset + into.length))
    },
    async *extents(range) {
      yield { ...range, kind: 'data' }
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
  return {
    reads,
    source,
    async *digests(range, blockSize) {
      for (let offset = range.offset; offset < rangeEnd(range); offset += blockSize) {
        const bytes = image.subarray(offset, Math.min(offset + blockSize, rangeEnd(range)))
        const at = { offset, length: bytes.length }
        const told = lie(isZero(bytes) ? { ...at, kind: 'zero' } : { ...at, kind: 'digest', sha256: sha256(bytes) })
        if (told !== undefined) yield told
      }
    },
  }
}

const numbers = (size: number, seed: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >> 9) + seed) % 251)

describe('digests compared with a parent', () => {
  test('tell exactly the blocks that differ, whatever the disk’s size and wherever the changes are', async () => {
    const change = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 1, max: 3 * BLOCK }),
      zero: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300 }),
        fc.array(change, { maxLength: 6 }),
        fc.nat(250),
        async (sectors, changes, seed) => {
          const before = numbers(sectors * 512, seed)
          before.fill(0, 3 * BLOCK, 5 * BLOCK)
          const now = Uint8Array.from(before)
          for (const { at, length, zero } of changes) {
            const start = Math.floor(at * (now.length - 1))
            for (let index = start; index < Math.min(now.length, start + length); index++) now[index] = zero ? 0 : 255
          }
          const disk = diskOf(now)
          const { areas, digestedBytes, sampledBytes } = await compareDigests(disk, parentOf(before))
          const named = new Set<number>()
          for (const area of areas) {
            expect(area.offset % BLOCK).toBe(0)
            for (let at = area.offset; at < rangeEnd(area); at += BLOCK) named.add(at)
          }
          let hashed = 0
          for (let at = 0; at < now.length; at += BLOCK) {
            const block = now.subarray(at, at + BLOCK)
            expect([at, named.has(at)]).toEqual([at, Buffer.compare(block, before.subarray(at, at + BLOCK)) !== 0])
            if (!isZero(block)) hashed += block.length
          }
          expect(areas.bytes).toBeLessThanOrEqual(now.length)
          expect(digestedBytes).toBe(hashed)
          expect(sampledBytes).toBe(disk.reads.reduce((sum, { length }) => sum + length, 0))
          expect(disk.reads.length).toBeLessThanOrEqual(1)
        },
      ),
      { seed: 5, numRuns: 200 },
    )
  })

  test('read a sample of what they call unchanged: the first such block, then one in a thousand', async () => {
    const image = numbers(2100 * BLOCK, 1)
    const disk = diskOf(image)
    const { areas, sampledBytes } = await compareDigests(disk, parentOf(image))
    expect(areas.bytes).toBe(0)
    expect(disk.reads.map(({ offset }) => offset / BLOCK)).toEqual([0, 1024, 2048])
    expect(sampledBytes).toBe(3 * BLOCK)
  })

  test('read what was left undecided', async () => {
    const image = numbers(4 * BLOCK, 1)
    const disk = diskOf(image, (block) => (block.offset === BLOCK ? { offset: BLOCK, length: BLOCK, kind: 'undecided' } : block))
    const { areas } = await compareDigests(disk, parentOf(image))
    expect([...areas]).toEqual([{ offset: BLOCK, length: BLOCK }])
  })

  const image = numbers(10 * BLOCK + 512, 3)
  const digestsOf = (block: BlockDigest): Uint8Array => (block.kind === 'digest' ? block.sha256 : new Uint8Array(32))
  test.each<[string, (block: BlockDigest) => BlockDigest | undefined, RegExp]>([
    ['a digest is missing', (block) => (block.offset === 3 * BLOCK ? undefined : block), /came for 4096 bytes at 16384/],
    ['the last digest is missing', (block) => (block.length < BLOCK ? undefined : block), /10 of 11 blocks/],
    [
      'a digest is for another block',
      (block) => ({ ...block, offset: block.offset + (block.offset === 2 * BLOCK ? BLOCK : 0) }),
      /where 4096 at 8192/,
    ],
    ['a digest is for fewer bytes', (block) => ({ ...block, length: 512 }), /came for 512 bytes/],
    [
      'a digest is short',
      (block) => ({ offset: block.offset, length: block.length, kind: 'digest', sha256: digestsOf(block).subarray(0, 20) }),
      /20 bytes instead of 32/,
    ],
  ])('are not believed when %s', async (_, lie, message) => {
    await expect(compareDigests(diskOf(image, lie), parentOf(image))).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringMatching(message),
    })
  })

  test('are not believed when a sample shows that something else was hashed', async () => {
    // The far side hashes what the parent point holds: an old file of the same name.
    const now = numbers(10 * BLOCK, 4)
    const stale = diskOf(image.subarray(0, now.length))
    const lying: DigestedDisk = { source: diskOf(now).source, digests: stale.digests }
    await expect(compareDigests(lying, parentOf(image.subarray(0, now.length)))).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringMatching(/was read for a check/),
    })
  })

  test('end with the error of either side, and with the caller’s signal', async () => {
    const cut = diskOf(image, (block) => {
      if (block.offset === 2 * BLOCK) throw new AgentError('UNAVAILABLE', 'The host went away.')
      return block
    })
    await expect(compareDigests(cut, parentOf(image))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const lost: ParentDigests = { blockSize: BLOCK, of: () => Promise.reject(new AgentError('INTEGRITY', 'A pack is gone.')) }
    await expect(compareDigests(diskOf(image), lost)).rejects.toMatchObject({ code: 'INTEGRITY' })
  })
})
