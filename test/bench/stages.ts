/**
 * What a full and a restore must do at least, each stage by itself in one thread with nothing else to do, through the product's own calls, level 1: the processor time below which no
 * arrangement of threads can bring it. `node test/bench/stages.ts FLAT DIRECTORY` reads a raw disk and writes below DIRECTORY; prints JSON, a `Stage` each.
 */
import { hash, randomBytes, scryptSync } from 'node:crypto'
import { closeSync, fstatSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isZero } from '../../src/core/index.ts'
import { ciphersFor } from '../../src/restic/ciphers.ts'
import { IV_BYTES, SEAL_OVERHEAD, sealInPlace, sealKeyFrom, tryUnseal } from '../../src/restic/sealing.ts'
import { zstdCodec } from '../../src/restic/zstd-codec.ts'

const BLOCK = 256 * 1024
/** Of the blocks that are not zero, one in so many is measured: evenly over the disk, so that each kind of data has its part. */
const ONE_IN = 4
const PACK = 16 * 1024 * 1024

/** Reckoned for all blocks of the disk. */
type Stage = { readonly of: readonly ('full' | 'restore')[]; readonly name: string; readonly bytes: number; readonly cpuSeconds: number }

function measureStages(flat: string, directory: string): readonly Stage[] {
  const blocks = sample(flat)
  const codec = zstdCodec(1, 'auto')
  const ciphers = ciphersFor('auto')
  const key = sealKeyFrom(randomBytes(64))
  const room = Buffer.allocUnsafeSlow(BLOCK * 2 + SEAL_OVERHEAD)
  const read = Buffer.allocUnsafeSlow(BLOCK)
  const source = openSync(flat, 'r')
  const all = blocks.length * BLOCK * ONE_IN
  const compressed = blocks.map(({ bytes }) => {
    const length = codec.compress(bytes, room.subarray(IV_BYTES))
    return { bytes: Buffer.from(length === undefined ? bytes : room.subarray(IV_BYTES, IV_BYTES + length)), whole: length === undefined }
  })
  const stored = compressed.reduce((sum, { bytes }) => sum + bytes.length + SEAL_OVERHEAD, 0) * ONE_IN
  const sealed = compressed.map(({ bytes }) => {
    bytes.copy(room, IV_BYTES)
    return Buffer.from(sealInPlace(key, randomBytes(IV_BYTES), room, bytes.length, ciphers))
  })
  const disk = join(directory, 'stages')
  const kdf = { N: 32_768, r: 8, p: 5, maxmem: 2 ** 26 }
  try {
    return [
      timed(['full'], 'disk read, page cache', all, () => {
        for (const { offset } of blocks) readSync(source, read, 0, BLOCK, offset)
      }),
      timed(['full', 'restore'], 'SHA-256 of blocks', all, () => {
        for (const { bytes } of blocks) hash('sha256', bytes, 'buffer')
      }),
      timed(['full'], `zstd level 1, by ${codec.name}`, all, () => {
        for (const { bytes } of blocks) codec.compress(bytes, room.subarray(IV_BYTES))
      }),
      timed(['full'], 'AES-256-CTR and Poly1305', stored, () => {
        for (const { bytes } of compressed) sealInPlace(key, randomBytes(IV_BYTES), room, bytes.length, ciphers)
      }),
      timed(['full'], 'SHA-256 of packs', stored, () => {
        for (const bytes of sealed) hash('sha256', bytes, 'buffer')
      }),
      timed(['full'], 'packs written and synced', stored, () => write(disk, sealed, PACK)),
      timed(['restore'], 'packs read, page cache', stored, () => {
        for (const [index, { length }] of sealed.entries()) readSync(source, read, 0, Math.min(length, BLOCK), blocks[index]?.offset ?? 0)
      }),
      once(['restore'], 'Poly1305 and AES-256-CTR', stored, () => {
        for (const bytes of sealed) if (tryUnseal(key, bytes, ciphers, true) === undefined) throw new Error('a block was not opened')
      }),
      timed(['restore'], `zstd decompressed, by ${codec.name}`, all, () => {
        for (const { bytes, whole } of compressed)
          if (whole) bytes.copy(read)
          else if (!codec.decompressInto(bytes, read)) throw new Error('a block was not decompressed')
      }),
      timed(['restore'], 'disk written', all, () =>
        write(
          disk,
          blocks.map(({ bytes }) => bytes),
          Infinity,
        ),
      ),
      once([], "scrypt of somebody's password", 0, () => scryptSync('bench', randomBytes(64), 64, kdf)),
    ]
  } finally {
    closeSync(source)
  }
}

/** Blocks that are not zero, one in `ONE_IN`. */
function sample(flat: string): { readonly offset: number; readonly bytes: Buffer }[] {
  const file = openSync(flat, 'r')
  const { size } = fstatSync(file)
  const blocks: { readonly offset: number; readonly bytes: Buffer }[] = []
  let seen = 0
  for (let offset = 0; offset < size; offset += BLOCK) {
    const bytes = Buffer.allocUnsafeSlow(BLOCK)
    readSync(file, bytes, 0, BLOCK, offset)
    if (!isZero(bytes) && seen++ % ONE_IN === 0) blocks.push({ offset, bytes })
  }
  closeSync(file)
  return blocks
}

/** As many blocks as the disk has, reckoned from the sample; twice, the better of the two. */
function timed(of: Stage['of'], name: string, bytes: number, work: () => void): Stage {
  return { of, name, bytes, cpuSeconds: Math.min(cpuOf(work), cpuOf(work)) * ONE_IN }
}

/** What cannot be done twice, or does not grow with the disk. */
function once(of: Stage['of'], name: string, bytes: number, work: () => void): Stage {
  return { of, name, bytes, cpuSeconds: cpuOf(work) * (bytes === 0 ? 1 : ONE_IN) }
}

function cpuOf(work: () => void): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e6
}

/** One after the other into a new file; synced each time so many bytes were written. */
function write(path: string, parts: readonly Buffer[], syncEvery: number): void {
  const file = openSync(path, 'w')
  let open = 0
  for (const part of parts) {
    writeSync(file, part)
    open += part.length
    if (open < syncEvery) continue
    fsyncSync(file)
    open = 0
  }
  closeSync(file)
  rmSync(path)
}

const [flat, directory] = process.argv.slice(2)
if (flat === undefined || directory === undefined) throw new Error('Usage: node test/bench/stages.ts FLAT DIRECTORY')
console.log(JSON.stringify(measureStages(flat, directory)))
