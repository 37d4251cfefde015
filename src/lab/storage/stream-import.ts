import { promisify } from 'node:util'
import { inflate } from 'node:zlib'
import { type Abortable, isZero, readU64, SECTOR, throwIfAborted } from '../../core/index.ts'
import type { LabDisk } from './lab-disk.ts'
import { LabStorageError } from './storage-error.ts'
import { AT_END, MARKER, STREAM_MAGIC, TABLE_ENTRIES } from './stream-layout.ts'

const decompress = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflate)
const MAX_GRAIN_SECTORS = 2048
const MAX_METADATA_SECTORS = 1 << 16
const KNOWN_FLAGS = 0x30003

/**
 * Decodes an uploaded streamOptimized VMDK into a disk of the same capacity. Truncated, malformed or other input is BadStream; the caller
 * then deletes the disk. Grains may come in any order. Returns bytes of data written.
 */
export async function importStream(source: AsyncIterable<Uint8Array>, disk: LabDisk, options: Abortable = {}): Promise<number> {
  const input = new SectorReader(source, options)
  const header = await input.take(SECTOR)
  const layout = parseHeader(header, disk.size)
  await input.skip((layout.overhead - 1) * SECTOR)
  let written = 0
  let footer: Buffer | undefined
  for (;;) {
    const first = await input.take(SECTOR)
    const size = first.readUInt32LE(8)
    const value = readStreamU64(first, 0)
    if (size === 0) {
      const type = first.readUInt32LE(12)
      if (type === MARKER.endOfStream) break
      if (value > MAX_METADATA_SECTORS || !Object.values<number>(MARKER).includes(type)) throw bad('It has a marker that means nothing')
      if (type === MARKER.footer) footer = await input.take(SECTOR)
      else await input.skip(value * SECTOR)
      continue
    }
    const offset = value * SECTOR
    if (size > layout.grainBytes * 2 + 1024 || offset % layout.grainBytes !== 0 || offset >= disk.size)
      throw bad('A grain lies outside the disk')
    const rest = await input.take(Math.ceil((12 + size) / SECTOR) * SECTOR - SECTOR)
    const data = await inflated(Buffer.concat([first.subarray(12), rest]).subarray(0, size), layout.grainBytes)
    const wanted = Math.min(layout.grainBytes, disk.size - offset)
    if (data.length < wanted) throw bad('A grain is shorter than it should be')
    if (isZero(data)) continue
    disk.write(offset, data.subarray(0, wanted))
    written += wanted
  }
  // A stream whose header names the directory needs no footer; the forward-only kind does.
  if (layout.needsFooter && (footer === undefined || footer.readUInt32LE(0) !== STREAM_MAGIC || footer.readBigUInt64LE(56) === AT_END)) {
    throw bad('It ends without a footer')
  }
  return written
}

function parseHeader(header: Buffer, size: number): { overhead: number; grainBytes: number; needsFooter: boolean } {
  const grain = readStreamU64(header, 20)
  const overhead = readStreamU64(header, 64)
  const flags = header.readUInt32LE(8)
  const compressed = (flags & 0x30000) === 0x30000 && header.readUInt16LE(77) === 1
  if (header.readUInt32LE(0) !== STREAM_MAGIC || !compressed || (flags & ~KNOWN_FLAGS) !== 0) throw bad('It is not a streamOptimized VMDK')
  if (header.readUInt32LE(4) > 3 || grain < 1 || grain > MAX_GRAIN_SECTORS || header.readUInt32LE(44) !== TABLE_ENTRIES) {
    throw bad('Its header has a layout the host does not know')
  }
  if (overhead < 1 || overhead > MAX_METADATA_SECTORS) throw bad('Its header is damaged')
  if (readStreamU64(header, 12) * SECTOR !== size) throw bad('Its capacity differs from the disk')
  return { overhead, grainBytes: grain * SECTOR, needsFooter: header.readBigUInt64LE(56) === AT_END }
}

async function inflated(data: Uint8Array, limit: number): Promise<Buffer> {
  try {
    return await decompress(data, { maxOutputLength: limit })
  } catch (error) {
    throw bad('A grain cannot be decompressed', error)
  }
}

function readStreamU64(bytes: Buffer, offset: number): number {
  const value = bytes.readBigUInt64LE(offset)
  return value < 2n ** 44n ? readU64(bytes, offset, 'stream field') : 2 ** 44
}

const bad = (what: string, cause?: unknown): LabStorageError =>
  new LabStorageError('BadStream', `The uploaded disk was refused. ${what}.`, 'upload', cause)

/** Whole pieces out of chunks of any size. */
class SectorReader {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #options: Abortable
  #held: Uint8Array[] = []
  #bytes = 0

  constructor(source: AsyncIterable<Uint8Array>, options: Abortable) {
    this.#source = source[Symbol.asyncIterator]()
    this.#options = options
  }

  async take(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      throwIfAborted(this.#options)
      const next = await this.#source.next()
      if (next.done === true) throw bad('It ends early')
      this.#held.push(next.value)
      this.#bytes += next.value.length
    }
    if (this.#held.length === 1 && this.#held[0] !== undefined) {
      const [only] = this.#held
      this.#held = bytes === only.length ? [] : [only.subarray(bytes)]
      this.#bytes -= bytes
      return Buffer.from(only.buffer, only.byteOffset, bytes)
    }
    const whole = Buffer.concat(this.#held)
    this.#held = bytes === whole.length ? [] : [whole.subarray(bytes)]
    this.#bytes -= bytes
    return whole.subarray(0, bytes)
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; left -= SECTOR * 128) await this.take(Math.min(left, SECTOR * 128))
  }
}
