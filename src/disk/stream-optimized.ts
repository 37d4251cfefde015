import { type Abortable, type BlockSource, type Extent, type Range, readU64, SECTOR } from '../core/index.ts'
import { BoundedCache } from './bounded-cache.ts'
import type { ByteSource } from './byte-source.ts'
import { grainHeadBytes, inflateGrain, maxCompressedBytes } from './compressed-grain.ts'
import { corrupt } from './corrupt.ts'
import { ABSENT_GRAIN, GrainIndex, type GrainMap } from './grain-index.ts'
import { type HostedSparseHeader, parseHostedSparseHeader } from './hosted-sparse-header.ts'
import { hostedSparseMap } from './hosted-sparse-tables.ts'
import { checkInside } from './inside.ts'
import { type Piece, readScattered } from './scattered-read.ts'
import { MARKER, parseMarker } from './stream-marker.ts'

/** Bytes of inflated grains kept, and of disk worked off at a time. */
const GRAIN_CACHE = 4 * 1024 * 1024
const SLICE = 1024 * 1024

/** Random access to a compressed KDMV file through its tables. The caller owns `bytes` until this resolves. Errors: INTEGRITY. */
export async function openStreamOptimized(bytes: ByteSource, header: HostedSparseHeader): Promise<BlockSource> {
  const directory = header.directory ?? (await directoryFromFooter(bytes, header))
  return new CompressedLayer(bytes, header, hostedSparseMap(bytes, header, directory))
}

/** A file written forward only ends: footer marker, footer (a copy of the header with the true directory), end-of-stream marker. */
async function directoryFromFooter(bytes: ByteSource, header: HostedSparseHeader): Promise<number> {
  const { name, size } = bytes
  const cut = (cause?: unknown): Error => corrupt(name, 'has no footer, so its transfer was cut', cause)
  if (size % SECTOR !== 0 || size < 4 * SECTOR) throw cut()
  const tail = new Uint8Array(3 * SECTOR)
  await bytes.read(size - tail.length, tail)
  const before = parseMarker(tail, name)
  const after = parseMarker(tail.subarray(2 * SECTOR), name)
  const isFooter = before.value === 1 && before.size === 0 && before.type === MARKER.footer
  if (!isFooter || after.value !== 0 || after.size !== 0 || after.type !== MARKER.endOfStream) throw cut()
  const footer = parseHostedSparseHeader(tail.subarray(SECTOR, 2 * SECTOR), name)
  checkFooter(header, footer, name)
  if (footer.directory === undefined) throw cut()
  return footer.directory
}

/** Footer and header must describe the same disk. */
export function checkFooter(header: HostedSparseHeader, footer: HostedSparseHeader, name: string): void {
  if (footer.capacity === header.capacity && footer.grainBytes === header.grainBytes && footer.markers === header.markers) return
  throw corrupt(name, 'has a header and a footer that disagree')
}

class CompressedLayer implements BlockSource {
  readonly size: number
  readonly #bytes: ByteSource
  readonly #header: HostedSparseHeader
  readonly #index: GrainIndex
  readonly #grains: BoundedCache<Uint8Array>

  constructor(bytes: ByteSource, header: HostedSparseHeader, map: GrainMap) {
    this.size = header.capacity
    this.#bytes = bytes
    this.#header = header
    this.#index = new GrainIndex(map)
    this.#grains = new BoundedCache(GRAIN_CACHE / header.grainBytes)
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, this.#bytes.name)
    const slice = Math.max(SLICE, this.#header.grainBytes)
    for (let done = 0; done < into.length; ) {
      // Slices end at grain borders, so that no grain is fetched twice.
      const end = Math.min(into.length, Math.floor((offset + done) / slice) * slice + slice - offset)
      await this.#readSlice(offset + done, into.subarray(done, end), options)
      done = end
    }
  }

  async #readSlice(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const { grainBytes } = this.#header
    const wanted = new Map<number, number>()
    const end = offset + into.length
    const first = Math.floor(offset / grainBytes)
    const last = Math.ceil(end / grainBytes)
    for (let grain = first; grain < last; grain++) {
      const { table, start } = await this.#index.at(grain * grainBytes, options)
      const position = table?.[grain - start / grainBytes] ?? ABSENT_GRAIN
      if (position > 0) wanted.set(grain, position)
    }
    const loads = this.#fetch(wanted, options)
    for (let grain = first; grain < last; grain++) {
      const from = Math.max(grain * grainBytes, offset)
      const to = Math.min((grain + 1) * grainBytes, end)
      const load = loads.get(grain)
      if (load === undefined) into.fill(0, from - offset, to - offset)
      else into.set((await load).subarray(from - grain * grainBytes, to - grain * grainBytes), from - offset)
    }
  }

  /** Inflated grains by number, from the cache or through one gathered read. */
  #fetch(wanted: ReadonlyMap<number, number>, options?: Abortable): Map<number, Promise<Uint8Array>> {
    const missing = [...wanted].filter(([grain]) => !this.#grains.has(grain)).sort((a, b) => a[1] - b[1])
    const raw = new Map<number, Piece>()
    for (const [index, [grain, position]] of missing.entries()) {
      // How long a stored grain is stands only in its head; the next grain's position is the best guess.
      const next = missing[index + 1]?.[1] ?? Number.POSITIVE_INFINITY
      const length = Math.min(next - position, this.#header.grainBytes + SECTOR, this.#bytes.size - position)
      raw.set(grain, { position, into: Buffer.allocUnsafe(length) })
    }
    const reading = readScattered(this.#bytes, [...raw.values()], options)
    // Each load below awaits the read and meets its error there.
    reading.catch(() => undefined)
    const loads = new Map<number, Promise<Uint8Array>>()
    for (const [grain, position] of wanted) {
      const load = this.#grains.get(grain, async () => {
        const piece = raw.get(grain)
        if (piece !== undefined) await reading
        return this.#inflate(grain, position, piece?.into)
      })
      // Met when the slice takes this grain; an earlier grain's error may come first.
      load.catch(() => undefined)
      loads.set(grain, load)
    }
    return loads
  }

  async #inflate(grain: number, position: number, start: Uint8Array = new Uint8Array()): Promise<Uint8Array> {
    const { name } = this.#bytes
    const { grainBytes, markers, capacity } = this.#header
    const headBytes = grainHeadBytes(markers)
    const head = start.length >= headBytes ? start : await this.#read(position, headBytes)
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
    if (markers && readU64(head, 0, `grain marker in ${name}`) * SECTOR !== grain * grainBytes) {
      throw corrupt(name, `names another grain where grain ${grain} should be`)
    }
    const length = view.getUint32(headBytes - 4, true)
    if (length === 0 || length > maxCompressedBytes(grainBytes) || position + headBytes + length > this.#bytes.size) {
      throw corrupt(name, `claims ${length} compressed bytes for grain ${grain}`)
    }
    const whole = start.length >= headBytes + length ? start : await this.#read(position, headBytes + length)
    const needed = Math.min(grainBytes, capacity - grain * grainBytes)
    return inflateGrain(whole.subarray(headBytes, headBytes + length), grainBytes, needed, `grain ${grain}`, name)
  }

  async #read(position: number, length: number): Promise<Uint8Array> {
    const into = Buffer.allocUnsafe(length)
    await this.#bytes.read(position, into)
    return into
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, this.#bytes.name)
    return this.#index.extents(range, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bytes[Symbol.asyncDispose]()
  }
}
