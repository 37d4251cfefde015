import { createHash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BlobIndex } from './blob-index.ts'
import { type BlobPlace, type BlobType, DATA, TREE } from './blob-records.ts'

const idOf = (number: number): Buffer => createHash('sha256').update(String(number)).digest()

describe('BlobIndex', () => {
  it('finds what a Map of lists finds', () => {
    const entry = fc.record({
      blob: fc.nat(60),
      tree: fc.boolean(),
      pack: fc.nat(5),
      offset: fc.nat(3),
      length: fc.integer({ min: 32, max: 40 }),
    })
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 300 }), (entries) => {
        const index = new BlobIndex()
        const packs = Array.from({ length: 6 }, (_, pack) => index.addPack(idOf(1000 + pack)))
        const model = new Map<string, Set<string>>()
        for (const { blob, tree, pack, offset, length } of entries) {
          const type: BlobType = tree ? TREE : DATA
          index.add(idOf(blob), { type, offset, length, uncompressedLength: length * 2 }, packs[pack] ?? 0)
          const key = `${type}-${blob}`
          const places = model.get(key) ?? new Set<string>()
          model.set(key, places.add(`${pack}-${offset}-${length}`))
        }
        for (let blob = 0; blob <= 60; blob++) {
          for (const type of [DATA, TREE] as const) {
            const expected = model.get(`${type}-${blob}`) ?? new Set()
            const found = index.findAll(type, idOf(blob)).map((place) => `${place.pack}-${place.offset}-${place.length}`)
            expect(new Set(found)).toEqual(expected)
            expect(found).toHaveLength(expected.size)
            expect(index.has(type, idOf(blob))).toBe(expected.size > 0)
            expect(index.find(type, idOf(blob)) !== undefined).toBe(expected.size > 0)
          }
        }
      }),
      { numRuns: 60 },
    )
  })

  it('takes a place once when two index files repeat it', () => {
    const index = new BlobIndex()
    const [a, b] = [index.addPack(idOf(1)), index.addPack(idOf(1))]
    const place: BlobPlace = { type: DATA, offset: 7, length: 100, uncompressedLength: 0 }
    index.add(idOf(5), place, a)
    index.add(idOf(5), place, b)
    expect(index.count).toBe(1)
    index.add(idOf(5), place, index.addPack(idOf(2)))
    expect(index.count).toBe(2)
  })

  it('holds 400,000 blobs in at most 64 bytes each and finds them all', () => {
    const count = 400_000
    const ids = randomBytes(count * 32)
    const index = new BlobIndex()
    for (let blob = 0; blob < count; blob++) {
      if (blob % 40 === 0) index.addPack(ids.subarray(blob * 32, blob * 32 + 32))
      index.add(
        ids.subarray(blob * 32, blob * 32 + 32),
        { type: DATA, offset: blob, length: 400_000, uncompressedLength: 1_048_576 },
        index.packCount - 1,
      )
    }
    for (let blob = 0; blob < count; blob += 7) {
      const found = index.find(DATA, ids.subarray(blob * 32, blob * 32 + 32))
      if (found?.offset !== blob || found.pack !== Math.floor(blob / 40)) expect.fail(`blob ${blob} was not found where it is`)
    }
    expect(index.has(TREE, ids.subarray(0, 32))).toBe(false)
    expect(index.has(DATA, randomBytes(32))).toBe(false)
    expect(index.memoryBytes / count).toBeLessThanOrEqual(64)
    expect(index.memoryBytes / count).toBeGreaterThan(48)
  })

  it('groups records by pack', () => {
    const index = new BlobIndex()
    for (let pack = 0; pack < 5; pack++) index.addPack(idOf(pack))
    for (let blob = 0; blob < 100; blob++)
      index.add(idOf(blob), { type: DATA, offset: blob, length: 40, uncompressedLength: 0 }, (blob * 3) % 4)
    const { records, starts } = index.byPack()
    const seen: number[] = []
    for (let pack = 0; pack < 5; pack++) {
      for (const record of records.subarray(starts[pack], starts[pack + 1])) {
        expect(index.record(record).location.pack).toBe(pack)
        seen.push(index.record(record).location.offset)
      }
    }
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, blob) => blob))
  })
})
