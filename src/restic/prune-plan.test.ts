import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BitSet } from './bit-set.ts'
import { BlobIndex } from './blob-index.ts'
import { DATA, TREE } from './blob-records.ts'
import { headerEntryBytes, packTailBytes } from './pack-header.ts'
import { PackTable } from './pack-table.ts'
import { planPrune, type PruneFacts, type PruneLimits } from './prune-plan.ts'
import { planIndex } from './rewrite-index.ts'

const PACK = 4 * 1024 * 1024

type Blob = { readonly id: number; readonly length: number }
type World = { readonly packs: readonly { readonly tree: boolean; readonly blobs: readonly Blob[] }[]; readonly used: ReadonlySet<number> }

const idOf = (text: string): Buffer => hash('sha256', text, 'buffer')
const keyOf = (tree: boolean, id: number): number => (tree ? 1000 + id : id)

/** Packs of random blobs, of which many are in several packs; what is needed is any of them. */
const world = fc
  .record({
    packs: fc.array(
      fc.record({
        tree: fc.boolean(),
        blobs: fc.uniqueArray(fc.record({ id: fc.nat(60), length: fc.integer({ min: 33, max: 400_000 }) }), {
          selector: ({ id }) => id,
          minLength: 1,
          maxLength: 12,
        }),
      }),
      { maxLength: 30 },
    ),
    wanted: fc.array(fc.nat(2000)),
  })
  .map(({ packs, wanted }): World => {
    const all = packs.flatMap(({ tree, blobs }) => blobs.map(({ id }) => keyOf(tree, id)))
    return { packs, used: new Set(wanted.flatMap((number) => (all.length === 0 ? [] : [all[number % all.length] ?? 0]))) }
  })

/** Everything that a survey finds, with `perFile` packs an index file. */
function survey({ packs, used }: World, perFile = 3): PruneFacts & { readonly files: ReadonlyMap<string, { from: number; to: number }> } {
  const index = new BlobIndex()
  const ends: number[] = []
  for (const [number, { tree, blobs }] of packs.entries()) {
    const pack = index.addPack(idOf(`pack ${number}`))
    let offset = 0
    for (const { id, length } of blobs) {
      index.add(idOf(`blob ${id}`), { type: tree ? TREE : DATA, offset, length, uncompressedLength: length }, pack)
      offset += length
    }
    ends[pack] = offset + packTailBytes(blobs.length)
  }
  const table = new PackTable(index)
  const sizes = new Float64Array(table.count)
  for (const [pack, end] of ends.entries()) sizes[table.rowOfPack(pack)] = end
  const records = new BitSet(index.count)
  for (const key of used) records.add(index.numberOf(key >= 1000 ? TREE : DATA, idOf(`blob ${key % 1000}`)) ?? -1)
  const files = new Map<string, { from: number; to: number }>()
  for (let from = 0; from < packs.length; from += perFile) files.set(`file ${from}`, { from, to: Math.min(packs.length, from + perFile) })
  return { index, table, used: records, sizes, unreferenced: [], pinned: new BitSet(table.count), pinnedStray: new Set(), files }
}

const limits = fc.record({
  mostUnused: fc.oneof(
    fc.constant('unlimited' as const),
    fc.record({ percent: fc.integer({ min: 0, max: 90 }) }),
    fc.record({ bytes: fc.nat(3_000_000) }),
  ),
  mostRepacked: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.nat(5_000_000)),
  packSize: fc.constant(PACK),
})

/** Blobs by key that are in packs which stay, or are written anew. */
function held(facts: PruneFacts, plan: ReturnType<typeof planPrune>): { readonly staying: Set<string>; readonly rewritten: string[] } {
  const { index, table } = facts
  const name = (record: number): string => `${index.location(record).type} ${Buffer.from(index.idOf(record)).toString('hex')}`
  const goes = new Set([...plan.remove, ...plan.repack])
  const rows = Array.from({ length: table.count }, (_, row) => row)
  return {
    staying: new Set(rows.filter((row) => !goes.has(row)).flatMap((row) => [...table.records(row)].map(name))),
    rewritten: plan.repack.flatMap((row) => [...table.records(row)].filter((record) => plan.kept.has(record)).map(name)),
  }
}

const neededOf = ({ used }: World): string[] =>
  [...used].map((key) => `${key >= 1000 ? TREE : DATA} ${idOf(`blob ${key % 1000}`).toString('hex')}`)

describe('the plan of a prune', () => {
  it('keeps every needed blob, writes none of them twice, and leaves no more unused than the limit', () => {
    fc.assert(
      fc.property(world, limits, (made, limit: PruneLimits) => {
        const facts = survey(made)
        const plan = planPrune(facts, limit)
        const { staying, rewritten } = held(facts, plan)
        for (const needed of neededOf(made)) expect(staying.has(needed) || rewritten.includes(needed)).toBe(true)
        expect(new Set(rewritten).size).toBe(rewritten.length)
        for (const blob of rewritten) expect(neededOf(made)).toContain(blob)
        const { figures } = plan
        expect(figures.repacked.bytes).toBeLessThanOrEqual(limit.mostRepacked)
        const most = limit.mostUnused
        if (limit.mostRepacked === Number.POSITIVE_INFINITY && most !== 'unlimited') {
          const total = figures.usedBytes + figures.unusedAfterBytes
          if ('bytes' in most) expect(figures.unusedAfterBytes).toBeLessThanOrEqual(most.bytes)
          else expect(figures.unusedAfterBytes).toBeLessThanOrEqual((most.percent / 100) * total + 1e-6)
        }
      }),
      { numRuns: 300, seed: 6 },
    )
  })

  it('has nothing left to do once it was done, and the sum of blobs does not change', () => {
    fc.assert(
      fc.property(world, limits, (made, limit: PruneLimits) => {
        const facts = survey(made)
        const plan = planPrune(facts, { ...limit, mostRepacked: Number.POSITIVE_INFINITY })
        const goes = new Set([...plan.remove, ...plan.repack])
        const { table, index } = facts
        // The world afterwards: what stays as it was, and one new pack of each kind.
        const stay = made.packs.filter((_pack, number) => !goes.has(table.rowOfPack(number)))
        const fresh = [false, true].flatMap((tree) => {
          const blobs = plan.repack
            .flatMap((row) => [...table.records(row)])
            .filter((record) => plan.kept.has(record) && index.location(record).type === (tree ? TREE : DATA))
            .map((record) => ({
              id: made.packs.flatMap((pack) => pack.blobs).find(({ id }) => idOf(`blob ${id}`).equals(index.idOf(record)))?.id ?? -1,
              length: index.location(record).length,
            }))
          return blobs.length === 0 ? [] : [{ tree, blobs }]
        })
        const after = planPrune(survey({ packs: [...stay, ...fresh], used: made.used }), {
          ...limit,
          mostRepacked: Number.POSITIVE_INFINITY,
        })
        expect(after.remove).toEqual([])
        expect(after.figures.usedBytes).toBe(plan.figures.usedBytes)
        expect(after.figures.unusedBytes).toBe(plan.figures.unusedAfterBytes)
      }),
      { numRuns: 300, seed: 7 },
    )
  })

  it('leaves what the server keeps, and everything that a kept index file names', () => {
    fc.assert(
      fc.property(world, limits, fc.array(fc.nat(29)), (made, limit: PruneLimits, keep) => {
        const facts = survey(made)
        for (const number of keep) if (number < made.packs.length) facts.pinned.add(facts.table.rowOfPack(number))
        const plan = planPrune(facts, limit)
        const goes = [...plan.remove, ...plan.repack]
        for (const row of goes) expect(facts.pinned.has(row)).toBe(false)
        const { staying, rewritten } = held(facts, plan)
        for (const needed of neededOf(made)) expect(staying.has(needed) || rewritten.includes(needed)).toBe(true)
      }),
      { numRuns: 200, seed: 8 },
    )
  })

  it('names every pack that stays in an index file that stays or is new, and none that goes', () => {
    fc.assert(
      fc.property(world, limits, fc.integer({ min: 1, max: 8 }), (made, limit: PruneLimits, perFile) => {
        const facts = survey(made, perFile)
        const plan = planPrune(facts, limit)
        const gone = new BitSet(facts.table.count)
        for (const row of [...plan.remove, ...plan.repack]) gone.add(row)
        const { superseded, rows } = planIndex({ table: facts.table, files: facts.files, gone, stay: new Set() })
        const named = new Set(rows)
        expect(named.size).toBe(rows.length)
        for (const [name, { from, to }] of facts.files) {
          if (superseded.includes(name)) continue
          for (let pack = from; pack < to; pack++) named.add(facts.table.rowOfPack(pack))
        }
        for (let row = 0; row < facts.table.count; row++) expect(named.has(row)).toBe(!gone.has(row))
      }),
      { numRuns: 300, seed: 9 },
    )
  })

  it('refuses everything when a needed blob is in no pack that is there and long enough', () => {
    const made: World = { packs: [{ tree: false, blobs: [{ id: 1, length: 100 }] }], used: new Set([1]) }
    const facts = survey(made)
    const limit = { mostUnused: 'unlimited', mostRepacked: 0, packSize: PACK } as const
    expect(() => planPrune(facts, limit)).not.toThrow()
    facts.sizes[0] = 100
    expect(() => planPrune(facts, limit)).toThrow(/Nothing was removed, because the repository is damaged: Pack [0-9a-f]{64}/u)
    facts.sizes[0] = 0
    expect(() => planPrune(facts, limit)).toThrow(/is missing or too short/u)
  })

  it('takes the copy that is in the fuller pack, so that a repack that was cut off is not done again', () => {
    const blobs = Array.from({ length: 10 }, (_, id) => ({ id, length: 300_000 }))
    const wanted = blobs.slice(0, 6)
    const made: World = {
      packs: [
        { tree: false, blobs },
        { tree: false, blobs: wanted },
      ],
      used: new Set([0, 1, 2, 3, 4, 5]),
    }
    const facts = survey(made)
    const plan = planPrune(facts, { mostUnused: { bytes: 0 }, mostRepacked: Number.POSITIVE_INFINITY, packSize: PACK })
    expect(plan.remove).toEqual([facts.table.rowOfPack(0)])
    expect(plan.repack).toEqual([])
    expect(plan.figures.usedBytes).toBe(6 * (300_000 + headerEntryBytes(1)))
  })

  it('counts a million blobs in little memory and time', () => {
    const index = new BlobIndex()
    const id = Buffer.alloc(32)
    for (let number = 0, pack = -1; number < 1_000_000; number++) {
      if (number % 64 === 0) {
        id.writeUInt32LE(number, 8)
        pack = index.addPack(hash('sha256', id, 'buffer'))
      }
      // A hash of its own for each: a multiple of an odd number runs through all words.
      id.writeUInt32LE(Math.imul(number, 2654435761) >>> 0, 0)
      index.add(id, { type: DATA, offset: (number % 64) * 250_000, length: 250_000, uncompressedLength: 262_144 }, pack)
    }
    const table = new PackTable(index)
    const sizes = new Float64Array(table.count).fill(64 * 250_000 + packTailBytes(64))
    const used = new BitSet(index.count)
    for (let number = 0; number < index.count; number++) if (number % 3 !== 0 && number % 6400 > 640) used.add(number)
    const facts = { index, table, used, sizes, unreferenced: [], pinned: new BitSet(table.count), pinnedStray: new Set<string>() }
    const plan = planPrune(facts, { mostUnused: { percent: 5 }, mostRepacked: Number.POSITIVE_INFINITY, packSize: 16 * 1024 * 1024 })
    expect(plan.remove.length).toBeGreaterThan(1000)
    expect(plan.repack.length).toBeGreaterThan(10_000)
    expect(index.memoryBytes + used.memoryBytes + table.memoryBytes).toBeLessThan(72 * 1024 * 1024)
  })
})
