/**
 * What the index of a large repository costs: memory, and time until the first look-up, cold (from the repository's index files) and with the local cache.
 *
 *   node test/bench/index-memory.ts [--blobs 10000000] [--feed files|memory] [--dir DIR]
 *
 * `files` writes a real repository that has nothing but index files, sealed as every writer seals them, 40,000 blobs each, 40 blobs a pack; about 65 bytes of
 * disk a blob. `memory` gives the same records to the cache without a repository: for counts that would take hours to write. Every measured step is a process of
 * its own; look-ups are of 200,000 blobs that are there and as many that are not.
 */
import { hash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { BlobIndex } from '../../src/restic/blob-index.ts'
import { BlobRecords, DATA } from '../../src/restic/blob-records.ts'
import { directoryBackend } from '../../src/restic/directory-backend.ts'
import { IndexCache } from '../../src/restic/index-cache/index-cache.ts'
import type { IndexRun } from '../../src/restic/index-cache/index-run.ts'
import { MemoryStream } from '../../src/restic/index-cache/record-streams.ts'
import { encodeIndexFile, INDEX_FILE_BLOBS } from '../../src/restic/index-file.ts'
import { IndexStore } from '../../src/restic/index-store.ts'
import { openKeyFile } from '../../src/restic/open-key.ts'
import { initRepository } from '../../src/restic/open-repository.ts'
import { RepositoryIndex } from '../../src/restic/repository-index.ts'
import { SealedFiles } from '../../src/restic/sealed-files.ts'
import { type Cost, measure } from '../../bench/measure.ts'

const PACK_BLOBS = 40
const LOOK_UPS = 200_000
const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'bench', username: 'bench', pid: process.pid }
const place = (blob: number) =>
  ({ type: DATA, offset: (blob % PACK_BLOBS) * 420_000, length: 420_000, uncompressedLength: 1_048_576 }) as const

/** The ids of a stretch of blobs, the same every time: 32 bytes out of a cheap generator, evenly spread as digests are. */
function fillIds(first: number, count: number, into: Uint32Array): Uint8Array {
  for (let blob = 0; blob < count; blob++) {
    let state = (first + blob + 1) >>> 0
    for (let word = 0; word < 8; word++) {
      state = (state + 0x9e37_79b9) >>> 0
      let mixed = Math.imul(state ^ (state >>> 16), 0x21f0_aaad)
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97)
      into[blob * 8 + word] = mixed ^ (mixed >>> 15)
    }
  }
  return new Uint8Array(into.buffer, 0, count * 32)
}

async function writeFiles(directory: string, blobs: number): Promise<void> {
  await using backend = directoryBackend(join(directory, 'repository'))
  await using made = await initRepository(backend, new Secret('bench'), deps, { kdf: { N: 1024, r: 8, p: 1 } })
  void made
  const files = new SealedFiles(backend, (await openKeyFile(backend, new Secret('bench'), deps)).master, randomBytes)
  const words = new Uint32Array(INDEX_FILE_BLOBS * 8)
  for (let first = 0; first < blobs; first += INDEX_FILE_BLOBS) {
    const count = Math.min(INDEX_FILE_BLOBS, blobs - first)
    const ids = fillIds(first, count, words)
    const packs: { readonly id: Uint8Array; readonly blobs: BlobRecords }[] = []
    for (let blob = 0; blob < count; blob += PACK_BLOBS) {
      const records = new BlobRecords()
      for (let each = blob; each < Math.min(count, blob + PACK_BLOBS); each++)
        records.add(ids.subarray(each * 32, each * 32 + 32), place(each))
      packs.push({ id: hash('sha256', `pack ${first + blob}`, 'buffer'), blobs: records })
    }
    await files.save('index', encodeIndexFile(packs))
  }
}

/** Makes the cache straight from memory, as a first load does: runs of 500,000 blobs, then one merge. */
async function feed(directory: string, blobs: number): Promise<void> {
  const cache = cacheAt(directory)
  await cache.open(new Set())
  const runs: IndexRun[] = []
  const words = new Uint32Array(500_000 * 8)
  for (let first = 0; first < blobs; first += 500_000) {
    const count = Math.min(500_000, blobs - first)
    const ids = fillIds(first, count, words)
    const index = new BlobIndex()
    for (let blob = 0; blob < count; blob++) {
      if (blob % PACK_BLOBS === 0) index.addPack(hash('sha256', `pack ${first + blob}`, 'buffer'))
      index.add(ids.subarray(blob * 32, blob * 32 + 32), place(blob), index.packCount - 1)
    }
    const packs = Array.from({ length: index.packCount }, (_, pack) => pack)
    runs.push(await cache.add(new MemoryStream(index, packs), [hash('sha256', `file ${first}`)], runs))
  }
  const merged = await cache.compact(runs)
  console.log(JSON.stringify({ runs: merged.length }))
}

const cacheAt = (directory: string): IndexCache => new IndexCache({ directory: join(directory, 'cache'), ...deps })

/** Opens the index, by way of the repository or of the cache alone, and looks up. */
async function load(directory: string, blobs: number, how: 'all in memory' | 'repository' | 'cache'): Promise<void> {
  const began = performance.now()
  let index: RepositoryIndex
  if (how === 'cache') {
    const wanted = new Set(Array.from({ length: Math.ceil(blobs / 500_000) }, (_, file) => hash('sha256', `file ${file * 500_000}`)))
    index = new RepositoryIndex(await cacheAt(directory).open(wanted))
  } else {
    const backend = directoryBackend(join(directory, 'repository'))
    const files = new SealedFiles(backend, (await openKeyFile(backend, new Secret('bench'), deps)).master, randomBytes)
    index = await new IndexStore(files, silentLog, how === 'repository' ? { cache: cacheAt(directory) } : {}).current()
  }
  const loadMs = performance.now() - began
  const hwm = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]
  const words = new Uint32Array(8)
  const per = (first: (number: number) => number, expected: boolean): number => {
    const from = process.cpuUsage()
    for (let number = 0; number < LOOK_UPS; number++)
      if (index.has(DATA, fillIds(first(number), 1, words)) !== expected) throw new Error(`wrong answer about blob ${first(number)}`)
    const { user, system } = process.cpuUsage(from)
    return (user + system) / LOOK_UPS
  }
  const knownUs = per((number) => Math.floor((number * 7919 * 31) % blobs), true)
  const unknownUs = per((number) => 3_000_000_000 + number, false)
  const round = (value: number): number => Math.round(value * 100) / 100
  console.log(
    JSON.stringify({
      blobs: index.count,
      loadMs: Math.round(loadMs),
      vmHwmMiB: Math.round(Number(hwm) / 1024),
      indexMiB: round(index.memoryBytes / 2 ** 20),
      bytesPerBlob: round(index.memoryBytes / blobs),
      knownUs: round(knownUs),
      unknownUs: round(unknownUs),
    }),
  )
}

const { values } = parseArgs({
  options: {
    blobs: { type: 'string', default: '10000000' },
    feed: { type: 'string', default: 'files' },
    dir: { type: 'string', default: tmpdir() },
    step: { type: 'string' },
  },
})
const blobs = Number(values.blobs)
if (values.step === 'write') await writeFiles(values.dir, blobs)
else if (values.step === 'feed') await feed(values.dir, blobs)
else if (values.step !== undefined) await load(values.dir, blobs, values.step as 'all in memory' | 'repository' | 'cache')
else {
  const directory = mkdtempSync(join(values.dir, 'vcb-bench-index-'))
  const step = async (what: string, name: string): Promise<void> => {
    const cost: Cost & { readonly output: string } = await measure(process.execPath, [
      join(import.meta.dirname, 'index-memory.ts'),
      '--blobs',
      values.blobs,
      '--dir',
      directory,
      '--step',
      name,
    ])
    console.log(
      `${what}: ${cost.wallSeconds.toFixed(1)} s, ${cost.cpuSeconds.toFixed(1)} CPU s, peak ${Math.round(cost.rssBytes / 2 ** 20)} MiB ${cost.output.trim()}`,
    )
  }
  try {
    if (values.feed === 'memory') {
      await step('made from memory', 'feed')
      await step('with the cache', 'cache')
    } else {
      await step('written', 'write')
      if (blobs <= 20_000_000) await step('all in memory', 'all in memory')
      await step('first time with a cache', 'repository')
      await step('with the cache', 'repository')
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}
