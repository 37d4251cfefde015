/**
 * What a full and a restore must do at least: one thread takes four blocks after the other four through every stage, by the product's own calls, and nothing else is done. Blocks stay in the
 * core's cache from stage to stage, so this is less than the stages would take each by itself, and below it no arrangement of threads can come.
 * `node test/bench/stages.ts FLAT DIRECTORY [LEVEL BLOCK]` reads a raw disk and writes below DIRECTORY; zstd's level (1) and the bytes of a block (262144); prints JSON, a `Stage` each.
 */
import { randomBytes, randomFillSync, scryptSync } from 'node:crypto'
import { closeSync, fsyncSync, fstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isZero } from '../../src/core/index.ts'
import { digestsOneByOne, digestsSideBySide, MOST_AT_ONCE } from '../../src/restic/block-digests.ts'
import { ciphersFor } from '../../src/restic/ciphers.ts'
import { IV_BYTES, SEAL_OVERHEAD, sealEach, sealKeyFrom, tryUnsealEach } from '../../src/restic/sealing.ts'
import { writePages } from '../../src/restic/write-pages.ts'
import { zstdCodec } from '../../src/restic/zstd-codec.ts'

const PACK = 16 * 1024 * 1024

type Stage = { readonly of: readonly ('full' | 'restore')[]; readonly name: string; readonly bytes: number; readonly cpuSeconds: number }

/** Where a block of the disk lies in the file that stands for all packs. */
type Stored = { readonly offset: number; readonly id: Uint8Array; readonly at: number; readonly length: number; readonly whole: boolean }

/** Seconds and bytes of the stages, added up. One thread that waits for nothing but the page cache: its time is processor time. */
class Stages {
  readonly #of: 'full' | 'restore'
  readonly #all = new Map<string, { readonly bytes: number; readonly ns: bigint }>()

  constructor(of: 'full' | 'restore') {
    this.#of = of
  }

  time<T>(name: string, bytes: number, work: () => T): T {
    const before = process.hrtime.bigint()
    const result = work()
    this.add(name, bytes, process.hrtime.bigint() - before)
    return result
  }

  add(name: string, bytes: number, ns: bigint): void {
    const stage = this.#all.get(name) ?? { bytes: 0, ns: 0n }
    this.#all.set(name, { bytes: stage.bytes + bytes, ns: stage.ns + ns })
  }

  get stages(): readonly Stage[] {
    return [...this.#all].map(([name, { bytes, ns }]) => ({ of: [this.#of], name, bytes, cpuSeconds: Number(ns) / 1e9 }))
  }
}

const [flat, directory, level = '1', block = '262144'] = process.argv.slice(2)
if (flat === undefined || directory === undefined) throw new Error('Usage: node test/bench/stages.ts FLAT DIRECTORY [LEVEL BLOCK]')
const BLOCK = Number(block)
const codec = zstdCodec(Number(level), 'auto')
const ciphers = ciphersFor('auto')
const digests = digestsSideBySide() ?? digestsOneByOne
const key = sealKeyFrom(randomBytes(64))

function full(flat: string, packFile: string): { readonly stages: Stages; readonly stored: readonly Stored[] } {
  const stages = new Stages('full')
  const source = openSync(flat, 'r')
  const target = openSync(packFile, 'w')
  const { size } = fstatSync(source)
  const room = Buffer.allocUnsafeSlow(MOST_AT_ONCE * BLOCK + 64).subarray(64)
  // Two packs, which are digested side by side.
  const packs = [0, 1].map(() => Buffer.allocUnsafeSlow(PACK + 8 * BLOCK))
  const filled: Buffer[] = []
  const ivs = Buffer.alloc(MOST_AT_ONCE * IV_BYTES)
  const stored: Stored[] = []
  /** By id, hex: what is there already is not stored again. */
  const known = new Map<string, Stored>()
  let at = 0
  let length = 0
  const packNow = (): Buffer => packs[filled.length] ?? Buffer.alloc(0)
  const write = (): void => {
    stages.time('SHA-256 of packs', sumOf(filled), () => digests(filled))
    stages.time('packs written and synced', sumOf(filled), () => {
      for (const pack of filled) {
        for (let done = 0; done < pack.length; ) done += writeSync(target, pack, done, pack.length - done)
        fsyncSync(target)
      }
    })
    filled.length = 0
  }
  const flush = (): void => {
    filled.push(packNow().subarray(0, length))
    at += length
    length = 0
    if (filled.length === packs.length) write()
  }
  const store = (blocks: readonly { readonly offset: number; readonly plain: Buffer }[]): void => {
    const ids = stages.time('SHA-256 of blocks', blocks.length * BLOCK, () => digests(blocks.map(({ plain }) => plain)))
    const parts: { readonly region: Buffer; readonly length: number }[] = []
    for (const [index, { offset, plain }] of blocks.entries()) {
      const id = ids[index] ?? room
      const name = Buffer.from(id).toString('hex')
      const before = known.get(name)
      if (before !== undefined) {
        stored.push({ ...before, offset })
        continue
      }
      const region = packNow().subarray(length)
      const compressed = stages.time(`zstd level ${level}, by ${codec.name}`, BLOCK, () => codec.compress(plain, region.subarray(IV_BYTES)))
      if (compressed === undefined) plain.copy(region, IV_BYTES)
      const bytes = compressed ?? BLOCK
      parts.push({ region, length: bytes })
      const one = { offset, id, at: at + length, length: bytes + SEAL_OVERHEAD, whole: compressed === undefined }
      known.set(name, one)
      stored.push(one)
      length += bytes + SEAL_OVERHEAD
    }
    stages.time('AES-256-CTR and Poly1305', sumOf(parts), () => sealEach(key, randomFillSync(ivs), parts, ciphers))
    if (length >= PACK) flush()
  }
  let read: { readonly offset: number; readonly plain: Buffer }[] = []
  for (let offset = 0; offset < size; offset += BLOCK) {
    const before = process.hrtime.bigint()
    const plain = room.subarray(read.length * BLOCK, (read.length + 1) * BLOCK)
    readSync(source, plain, 0, BLOCK, offset)
    if (isZero(plain)) continue
    stages.add('disk read, page cache', BLOCK, process.hrtime.bigint() - before)
    read.push({ offset, plain })
    if (read.length < MOST_AT_ONCE) continue
    store(read)
    read = []
  }
  store(read)
  flush()
  if (filled.length > 0) write()
  for (const file of [source, target]) closeSync(file)
  return { stages, stored }
}

function restore(stored: readonly Stored[], packs: string, disk: string): Stages {
  const stages = new Stages('restore')
  const source = openSync(packs, 'r')
  const target = openSync(disk, 'w')
  const room = Buffer.allocUnsafeSlow(MOST_AT_ONCE * (BLOCK + SEAL_OVERHEAD))
  const opened = Buffer.allocUnsafeSlow(MOST_AT_ONCE * BLOCK)
  for (let first = 0; first < stored.length; first += MOST_AT_ONCE) {
    const group = stored.slice(first, first + MOST_AT_ONCE)
    const bytes = sumOf(group)
    let end = 0
    const sealed = group.map(({ length }) => room.subarray(end, (end += length)))
    stages.time('packs read, page cache', bytes, () => {
      const [first] = group
      // One read where they lie one after the other, as they do but for those that were there already.
      if (first !== undefined && inOrder(group)) readSync(source, room, 0, bytes, first.at)
      else for (const [index, { at, length }] of group.entries()) readSync(source, sealed[index] ?? room, 0, length, at)
    })
    const bodies = stages.time('Poly1305 and AES-256-CTR', bytes, () => tryUnsealEach(key, sealed, ciphers, true))
    const blocks = group.map((block, index) => {
      const plain = opened.subarray(index * BLOCK, (index + 1) * BLOCK)
      const body = bodies[index]
      if (body === undefined) throw new Error('a block was not opened')
      const open = (): boolean => (block.whole ? body.copy(plain) === BLOCK : codec.decompressInto(body, plain))
      if (!stages.time(`zstd decompressed, by ${codec.name}`, BLOCK, open)) throw new Error('a block was not decompressed')
      return { ...block, plain }
    })
    const ids = stages.time('SHA-256 of blocks', blocks.length * BLOCK, () => digests(blocks.map(({ plain }) => plain)))
    for (const [index, { id, plain, offset }] of blocks.entries()) {
      if (Buffer.compare(ids[index] ?? room, id) !== 0) throw new Error('another block')
      stages.time('disk written', BLOCK, () => writePages(target, plain, offset))
    }
  }
  for (const file of [source, target]) closeSync(file)
  return stages
}

const inOrder = (group: readonly Stored[]): boolean =>
  group.every(({ at }, index) => index === 0 || at === (group[index - 1]?.at ?? 0) + (group[index - 1]?.length ?? 0))

const sumOf = (parts: readonly { readonly length: number }[]): number => parts.reduce((sum, { length }) => sum + length, 0)

function scrypt(): Stage {
  const before = process.hrtime.bigint()
  scryptSync('bench', randomBytes(64), 64, { N: 32_768, r: 8, p: 5, maxmem: 2 ** 26 })
  return { of: [], name: "scrypt of somebody's password", bytes: 0, cpuSeconds: Number(process.hrtime.bigint() - before) / 1e9 }
}

const [packs, disk] = [join(directory, 'stages-packs'), join(directory, 'stages-disk')]
try {
  const { stages, stored } = full(flat, packs)
  console.log(JSON.stringify([...stages.stages, ...restore(stored, packs, disk).stages, scrypt()]))
} finally {
  for (const file of [packs, disk]) rmSync(file, { force: true })
}
