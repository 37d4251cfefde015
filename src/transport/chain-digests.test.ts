import { hash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Extent } from '../core/index.ts'
import { memoryBytes, openFlat, overlay, type Place, type PlacedSource, zeroSource } from '../disk/index.ts'
import { chainDigests } from './chain-digests.ts'
import type { BlockDigest } from './transport.ts'

const collect = async (digests: AsyncIterable<BlockDigest> | undefined): Promise<BlockDigest[]> => {
  const all: BlockDigest[] = []
  for await (const each of digests ?? []) all.push(each)
  return all
}

/** Hashes places in files that are in memory. */
const digestIn =
  (files: ReadonlyMap<string, Uint8Array>) =>
  async (places: readonly Place[]): Promise<Uint8Array> => {
    const parts = places.map(({ file, offset, length }) =>
      file === undefined ? new Uint8Array(length) : (files.get(file) ?? new Uint8Array()).subarray(offset, offset + length),
    )
    return hash('sha256', Buffer.concat(parts), 'buffer')
  }

/** A layer of which stretches are in the file, zero, or left to the parent. */
const layer = fc.record({
  kinds: fc.array(fc.tuple(fc.constantFrom('data', 'zero', 'absent'), fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 12 }),
  seed: fc.integer({ min: 1, max: 255 }),
})

test('every block is told once, in order, with the digest of what reads there', async () => {
  await fc.assert(
    fc.asyncProperty(layer, layer, fc.integer({ min: 1, max: 64 }), fc.nat(5), async (top, base, blockSize, skipped) => {
      const made = (name: string, { kinds, seed }: typeof top, size?: number) => {
        const extents: Extent[] = []
        let at = 0
        for (const [kind, length] of kinds) {
          const more = Math.min(length, (size ?? Number.POSITIVE_INFINITY) - at)
          if (more > 0) extents.push({ offset: at, length: more, kind: name === 'base' && kind === 'absent' ? 'zero' : kind })
          at += Math.max(0, more)
        }
        const bytes = Uint8Array.from({ length: at }, (_, index) => (index * 7 + seed) % 251)
        for (const { offset, length, kind } of extents) if (kind !== 'data') bytes.fill(0, offset, offset + length)
        return { bytes, source: openFlat(memoryBytes(bytes, name, extents)) }
      }
      const above = made('top', top)
      const below = made('base', base, above.bytes.length)
      await using disk = overlay(above.source, below.source)
      const files = new Map([
        ['top', above.bytes],
        ['base', below.bytes],
      ])
      const image = new Uint8Array(disk.size)
      await disk.read(0, image)
      const start = Math.min(skipped * blockSize, Math.floor(disk.size / blockSize) * blockSize)
      const told = await collect(chainDigests(disk, digestIn(files))?.({ offset: start, length: disk.size - start }, blockSize))
      let at = start
      for (const block of told) {
        expect([block.offset, block.length]).toEqual([at, Math.min(blockSize, disk.size - at)])
        const bytes = image.subarray(at, at + block.length)
        if (block.kind === 'zero') expect(bytes.every((byte) => byte === 0)).toBe(true)
        else expect(block).toMatchObject({ kind: 'digest', sha256: hash('sha256', bytes, 'buffer') })
        at += block.length
      }
      expect(at).toBe(disk.size)
    }),
    { seed: 9, numRuns: 400 },
  )
})

test('what the map calls zero is never asked about, and what lies in too many places is left undecided', async () => {
  const asked: number[] = []
  const digestOf = async (places: readonly Place[]): Promise<Uint8Array> => {
    asked.push(places.length)
    return new Uint8Array(32)
  }
  expect(await collect(chainDigests(zeroSource(100), digestOf)?.({ offset: 0, length: 100 }, 64))).toEqual([
    { offset: 0, length: 64, kind: 'zero' },
    { offset: 64, length: 36, kind: 'zero' },
  ])
  expect(asked).toEqual([])
  const scattered: PlacedSource = {
    ...openFlat(memoryBytes(new Uint8Array(4096), 'a')),
    size: 4096,
    read: async () => undefined,
    async *extents(range) {
      yield { ...range, kind: 'data' }
    },
    async *places({ offset, length }) {
      for (let at = offset; at < offset + length; at += 2) yield { length: 2, file: 'a', offset: 4094 - at }
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
  expect(await collect(chainDigests(scattered, digestOf)?.({ offset: 0, length: 4096 }, 2048))).toMatchObject([
    { kind: 'digest' },
    { kind: 'digest' },
  ])
  expect(await collect(chainDigests(scattered, digestOf)?.({ offset: 0, length: 4096 }, 4096))).toMatchObject([{ kind: 'undecided' }])
})

test('a layer that does not know where its bytes lie has no digests', () => {
  const { places: _, ...blind } = { ...zeroSource(512) }
  expect(chainDigests(blind, async () => new Uint8Array(32))).toBeUndefined()
})
