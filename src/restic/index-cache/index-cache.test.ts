import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, open, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog, systemClock } from '../../core/index.ts'
import { BlobIndex, type BlobLocation } from '../blob-index.ts'
import { type BlobType, DATA, TREE } from '../blob-records.ts'
import { DamagedRun } from './damaged-run.ts'
import { IndexCache } from './index-cache.ts'
import { IndexRun } from './index-run.ts'
import { PAGE_BYTES } from './page.ts'
import { MemoryStream } from './record-streams.ts'

const idOf = (text: string): Buffer => createHash('sha256').update(text).digest()
const fileOf = (text: string): string => idOf(`file ${text}`).toString('hex')

describe('index cache', () => {
  let directory: string
  let top: string
  const opened: IndexRun[] = []
  const cache = (): IndexCache => new IndexCache({ directory, clock: systemClock, random: randomBytes, log: silentLog })
  const openAll = async (wanted: Iterable<string>): Promise<IndexRun[]> => {
    const runs = await cache().open(new Set(wanted))
    opened.push(...runs)
    return runs
  }
  /** `packs` packs of `blobs` blobs, all different from those of other names. */
  const filled = (name: string, packs: number, blobs: number): { readonly index: BlobIndex; readonly stream: MemoryStream } => {
    const index = new BlobIndex()
    for (let pack = 0; pack < packs; pack++) {
      const number = index.addPack(idOf(`pack ${name} ${pack}`))
      for (let blob = 0; blob < blobs; blob++)
        index.add(idOf(`${name} ${pack} ${blob}`), { type: DATA, offset: blob * 100, length: 100, uncompressedLength: 200 }, number)
    }
    return {
      index,
      stream: new MemoryStream(
        index,
        Array.from({ length: packs }, (_, pack) => pack),
      ),
    }
  }

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'vcb-index-'))
    directory = join(top, 'cache')
  })
  afterEach(async () => {
    for (const run of opened.splice(0)) await run[Symbol.asyncDispose]()
    await rm(top, { recursive: true })
  })

  it('finds in runs, one or merged, what the index in memory finds', async () => {
    const entry = fc.record({
      blob: fc.nat(400),
      tree: fc.boolean(),
      pack: fc.nat(5),
      offset: fc.nat(2),
      // Ids that share their first words: what digests almost never do.
      alike: fc.integer({ min: 0, max: 8 }),
    })
    const idFor = ({ blob, alike }: { readonly blob: number; readonly alike: number }): Buffer => {
      const id = idOf(`blob ${blob}`)
      id.fill(7, 0, alike * 4 === 32 ? 28 : alike * 4)
      return id
    }
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(entry, { maxLength: 400 }), { minLength: 1, maxLength: 4 }), async (parts) => {
        const store = cache()
        await rm(directory, { recursive: true, force: true })
        const whole = new BlobIndex()
        const runs: IndexRun[] = []
        for (const [part, entries] of parts.entries()) {
          const memory = new BlobIndex()
          const packs = Array.from({ length: 6 }, (_, pack) => idOf(`pack ${part} ${pack}`))
          for (const id of packs) memory.addPack(id)
          const first = whole.packCount
          for (const id of packs) whole.addPack(id)
          for (const each of entries) {
            const type: BlobType = each.tree ? TREE : DATA
            const place = { type, offset: each.offset, length: 40, uncompressedLength: 80 }
            memory.add(idFor(each), place, each.pack)
            // The pack that is not saved is not found either.
            if (each.pack < 5) whole.add(idFor(each), place, first + each.pack)
          }
          runs.push(await store.add(new MemoryStream(memory, [0, 1, 2, 3, 4]), [fileOf(String(part))], runs))
        }
        const merged = await store.compact(runs)
        for (const set of [runs, merged]) {
          for (const each of parts.flat()) {
            for (const type of [DATA, TREE] as const) {
              const id = idFor(each)
              const expected = whole.findAll(type, id).map((at) => `${whole.packId(at.pack).toString('hex')} ${at.offset} ${at.length}`)
              const found = set.flatMap((run) => {
                const places: BlobLocation[] = []
                run.findAll(type, id, 1000, places)
                expect(run.has(type, id)).toBe(places.length > 0)
                return places.map((at) => `${run.packId(at.pack - 1000).toString('hex')} ${at.offset} ${at.length}`)
              })
              expect(found.sort()).toEqual(expected.sort())
            }
          }
          for (const run of set) expect(run.has(DATA, randomBytes(32))).toBe(false)
        }
        for (const run of new Set([...runs, ...merged])) await run[Symbol.asyncDispose]()
      }),
      { numRuns: 25, seed: 7 },
    )
  })

  it('opens again what was saved, as far as its index files are still there', async () => {
    const first = cache()
    const a = await first.add(filled('a', 20, 1500).stream, [fileOf('a')], [])
    opened.push(a, await first.add(filled('b', 2, 40).stream, [fileOf('b')], [a]))
    const both = await openAll([fileOf('a'), fileOf('b'), fileOf('c')])
    expect(both.map((run) => run.facts.records).toSorted((a, b) => a - b)).toEqual([80, 30_000])
    expect(both.some((run) => run.has(DATA, idOf('b 1 39')))).toBe(true)
    // Of a run no more than a mebibyte of its pages, and a word for each of those that hold records.
    for (const { memoryBytes, facts } of both)
      expect(memoryBytes).toBeLessThanOrEqual(Math.min(2 ** 20, PAGE_BYTES * (facts.records / 85 + 3)) + facts.records)
    const left = await openAll([fileOf('a')])
    expect(left.map((run) => run.facts.files)).toEqual([[fileOf('a')]])
  })

  it('lets one of two processes win, and the other go on with what it has', async () => {
    const [one, two] = [cache(), cache()]
    expect([await one.open(new Set()), await two.open(new Set())]).toEqual([[], []])
    opened.push(await one.add(filled('a', 2, 500).stream, [fileOf('a')], []))
    const late = await two.add(filled('b', 2, 500).stream, [fileOf('b')], [])
    opened.push(late)
    expect(late.has(DATA, idOf('b 1 499'))).toBe(true)
    const runs = await openAll([fileOf('a'), fileOf('b')])
    expect(runs.map((run) => run.facts.files)).toEqual([[fileOf('a')]])
    // Also when the first has gone on since, so that the number of the second is free again.
    opened.push(await one.add(filled('c', 2, 500).stream, [fileOf('c')], opened.slice(0, 1)))
    const third = cache()
    await third.open(new Set())
    opened.push(await two.add(filled('d', 2, 500).stream, [fileOf('d')], [late]))
    expect((await openAll([fileOf('a'), fileOf('c')])).map((run) => run.facts.files.length)).toEqual([1, 1])
    expect((await readdir(directory)).filter((name) => name.startsWith('run-'))).toHaveLength(2)
  })

  it('notices every byte that changes, and a run that is cut short or of another set', async () => {
    const store = cache()
    const { stream } = filled('a', 3, 300)
    const run = await store.add(stream, [fileOf('a')], [])
    opened.push(run)
    const path = join(directory, run.facts.name)
    const { size } = await stat(path)
    const ids = Array.from({ length: 900 }, (_, blob) => idOf(`a ${Math.floor(blob / 300)} ${blob % 300}`))
    /** By a process that has just opened it: what was verified once is not read again. */
    const lookUpAll = async (): Promise<boolean> => {
      await using fresh = await IndexRun.open(directory, run.facts)
      return ids.every((id) => fresh.has(DATA, id)) && fresh.packId(2).equals(idOf('pack a 2'))
    }
    expect(await lookUpAll()).toBe(true)
    await using file = await open(path, 'r+')
    const random = randomBytes(60 * 6)
    for (let trial = 0; trial < 60; trial++) {
      const at = random.readUIntLE(trial * 6, 6) % (size - PAGE_BYTES)
      const old = Buffer.alloc(1)
      await file.read(old, 0, 1, at)
      await file.write(Buffer.from([(old[0] ?? 0) ^ (1 << (trial % 8))]), 0, 1, at)
      await expect(lookUpAll(), `byte ${at}`).rejects.toThrow(DamagedRun)
      await file.write(old, 0, 1, at)
    }
    expect(await lookUpAll()).toBe(true)
    // The last page is the one that opening reads.
    await file.write(Buffer.from([1]), 0, 1, size - 8)
    expect(await openAll([fileOf('a')])).toEqual([])
    await file.truncate(size - PAGE_BYTES)
    expect(await openAll([fileOf('a')])).toEqual([])
  })

  it('makes nothing of a set that is damaged, of another version, or lies about its runs', async () => {
    const store = cache()
    opened.push(await store.add(filled('a', 3, 300).stream, [fileOf('a')], []))
    const [name = ''] = (await readdir(directory)).filter((each) => each.startsWith('set-'))
    const good = await readText(join(directory, name))
    const json = good.split('\n')[0] ?? ''
    const signed = (text: string): string => `${text}\n${createHash('sha256').update(text).digest('hex')}\n`
    const cases = [
      good.replace('"packs":3', '"packs":4'),
      '',
      signed('{"version":2,"runs":[]}'),
      signed(json.replace('"records":900', '"records":-1')),
    ]
    for (const text of [...cases, signed(json.replace('run-', '../run-')), signed(json.replace('"records":900', '"records":9000'))]) {
      await writeFile(join(directory, name), text)
      expect(await openAll([fileOf('a')])).toEqual([])
    }
    await writeFile(join(directory, name), good)
    expect(await openAll([fileOf('a')])).toHaveLength(1)
  })

  it('merges small runs and leaves a large one, and removes what nobody needs', async () => {
    const store = cache()
    let runs: readonly IndexRun[] = []
    for (const [name, blobs] of [
      ['large', 5000],
      ['a', 100],
      ['b', 100],
      ['c', 300],
    ] as const) {
      const run = await store.add(filled(name, 1, blobs).stream, [fileOf(name)], runs)
      opened.push(run)
      runs = [...runs, run]
    }
    await writeFile(join(directory, `run-${'0'.repeat(32)}`), 'left by a process that died')
    await writeFile(join(directory, `run-${'1'.repeat(32)}`), 'being written by another')
    await utimes(join(directory, `run-${'0'.repeat(32)}`), 1, 1)
    const merged = await store.compact(runs)
    opened.push(...merged.filter((run) => !runs.includes(run)))
    expect(merged.map((run) => run.facts.records).toSorted((a, b) => a - b)).toEqual([500, 5000])
    expect(await store.compact(merged)).toBe(merged)
    const there = await readdir(directory)
    expect(there.filter((name) => name.startsWith('set-'))).toHaveLength(1)
    expect(there.filter((name) => name.startsWith('run-')).sort()).toEqual(
      [...merged.map((run) => run.facts.name), `run-${'1'.repeat(32)}`].sort(),
    )
    expect((await openAll(['large', 'a', 'b', 'c'].map(fileOf))).map((run) => run.facts.records).toSorted((a, b) => a - b)).toEqual([
      500, 5000,
    ])
  })
})

async function readText(path: string): Promise<string> {
  await using file = await open(path)
  return await file.readFile('utf8')
}
