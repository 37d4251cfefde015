import {
  type Abortable,
  AgentError,
  type BlockSink,
  type BlockSource,
  clipRange,
  coalesceExtents,
  type Extent,
  formatBytes,
  fromErrno,
  KIB,
  openScratch,
  type Range,
  rangeEnd,
  type ScratchFile,
  throwIfAborted,
} from '../core/index.ts'
import { checkInside } from './inside.ts'

/** The unit of copying, bytes: small beside what a journal's replay writes, large beside a map entry. */
const BLOCK = 64 * KIB
/** In the map: the block reads as zeros and has no place in the scratch file. */
const ZERO = -1

export type CowOptions = {
  /** Where the scratch file is made; it has no name there. */
  readonly directory: string
  /** Most bytes that may differ from the source, in blocks of 64 KiB. Memory grows with it (about 4 MiB for each GiB), not with the disk. */
  readonly limit: number
}

/** A disk that can be written to while its source stays as it is. */
export type CowDisk = BlockSource &
  BlockSink & {
    /** Bytes that differ from the source now, in whole blocks. */
    readonly changed: number
  }

/**
 * `source` with a private layer over it that takes all writes: copy on write, in blocks of 64 KiB, in an unnamed scratch file that is gone with the
 * process. Reads may run beside writes. Does not own the source. Errors of a write: CAPACITY (the
 * limit, or no space), and those of reading the source. `flush` has nothing to do: nothing here outlives the process.
 */
export async function createCowDisk(source: BlockSource, options: CowOptions): Promise<CowDisk> {
  try {
    return new Cow(source, await openScratch(options.directory), options)
  } catch (error) {
    throw fromErrno(error, options.directory) ?? error
  }
}

class Cow implements CowDisk {
  readonly size: number
  readonly #source: BlockSource
  readonly #scratch: ScratchFile
  readonly #options: CowOptions
  /** Block → its place in the scratch file in blocks, or ZERO. */
  readonly #places = new Map<number, number>()
  /** Blocks being changed: one change at a time. */
  readonly #busy = new Map<number, Promise<void>>()
  #nextPlace = 0
  #adding = 0

  constructor(source: BlockSource, scratch: ScratchFile, options: CowOptions) {
    this.size = source.size
    this.#source = source
    this.#scratch = scratch
    this.#options = options
  }

  get changed(): number {
    return this.#places.size * BLOCK
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, 'the overlay')
    throwIfAborted(options)
    for (const run of this.#runs({ offset, length: into.length })) {
      const part = into.subarray(run.offset - offset, rangeEnd(run) - offset)
      if (run.place === undefined) await this.#source.read(run.offset, part, options)
      else if (run.place === ZERO) part.fill(0)
      else await this.#readScratch(run.place * BLOCK + (run.offset % BLOCK), part)
    }
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, 'the overlay')
    return coalesceExtents(this.#extents(range, options))
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    throwIfAborted(options)
    for (const { offset, length, place } of this.#runs(range)) {
      if (place === undefined) yield* this.#source.extents({ offset, length }, options)
      else yield { offset, length, kind: place === ZERO ? 'zero' : 'data' }
    }
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, data.length, this.size, 'the overlay')
    for (const piece of blocksOf({ offset, length: data.length })) {
      const part = data.subarray(piece.offset - offset, rangeEnd(piece) - offset)
      await this.#alone(piece.block, options, () => this.#writeBlock(piece.block, piece.offset % BLOCK, part, options))
    }
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    checkInside(range.offset, range.length, this.size, 'the overlay')
    const zeros = new Uint8Array(Math.min(BLOCK, range.length))
    for (const piece of blocksOf(range)) {
      const whole = piece.length === this.#lengthOf(piece.block)
      await this.#alone(piece.block, options, () =>
        whole
          ? this.#zeroBlock(piece.block)
          : this.#writeBlock(piece.block, piece.offset % BLOCK, zeros.subarray(0, piece.length), options),
      )
    }
  }

  async flush(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#busy.values())
    await this.#scratch.close()
  }

  async #writeBlock(block: number, at: number, data: Uint8Array, options?: Abortable): Promise<void> {
    const known = this.#places.get(block)
    if (known !== undefined && known !== ZERO) return this.#writeScratch(known * BLOCK + at, data)
    using _room = known === undefined ? this.#makeRoom() : undefined
    let whole = data
    if (data.length < this.#lengthOf(block)) {
      const copy = Buffer.alloc(this.#lengthOf(block))
      if (known === undefined) await this.#source.read(block * BLOCK, copy, options)
      copy.set(data, at)
      whole = copy
    }
    const place = this.#nextPlace++
    await this.#writeScratch(place * BLOCK, whole)
    this.#places.set(block, place)
  }

  async #zeroBlock(block: number): Promise<void> {
    const known = this.#places.get(block)
    if (known !== undefined && known !== ZERO) return this.#writeScratch(known * BLOCK, new Uint8Array(this.#lengthOf(block)))
    using _room = known === undefined ? this.#makeRoom() : undefined
    this.#places.set(block, ZERO)
  }

  /** Counts a block that is being added, until it is in the map. */
  #makeRoom(): Disposable {
    const { limit } = this.#options
    if ((this.#places.size + this.#adding + 1) * BLOCK > limit) {
      throw new AgentError('CAPACITY', `The private layer over a disk is full: more than ${formatBytes(limit)} were to be changed.`, {
        next: 'Allow it more space.',
        retry: 'never',
      })
    }
    this.#adding++
    return { [Symbol.dispose]: () => void this.#adding-- }
  }

  /** Changes of one block, one after the other. */
  async #alone(block: number, options: Abortable | undefined, work: () => Promise<void>): Promise<void> {
    for (let busy = this.#busy.get(block); busy !== undefined; busy = this.#busy.get(block)) await busy.catch(() => undefined) // told to who asked for it
    throwIfAborted(options)
    const change = work()
    this.#busy.set(block, change)
    try {
      await change
    } finally {
      this.#busy.delete(block)
    }
  }

  /** Pieces of `range` by where their bytes are, those of the source joined. Takes no time for what was never changed. */
  *#runs(range: Range): Generator<Range & { readonly place: number | undefined }> {
    let at = range.offset
    for (const block of this.#changedIn(range)) {
      const start = Math.max(range.offset, block * BLOCK)
      const end = Math.min(rangeEnd(range), (block + 1) * BLOCK)
      if (start > at) yield { offset: at, length: start - at, place: undefined }
      yield { offset: start, length: end - start, place: this.#places.get(block) }
      at = end
    }
    if (at < rangeEnd(range)) yield { offset: at, length: rangeEnd(range) - at, place: undefined }
  }

  /** The changed blocks that `range` touches, in order. */
  #changedIn(range: Range): readonly number[] {
    const first = Math.floor(range.offset / BLOCK)
    const end = Math.ceil(rangeEnd(range) / BLOCK)
    const some = (block: number): boolean => block >= first && block < end
    if (end - first > this.#places.size) return [...this.#places.keys()].filter(some).sort((a, b) => a - b)
    return Array.from({ length: end - first }, (_, index) => first + index).filter((block) => this.#places.has(block))
  }

  #lengthOf(block: number): number {
    return Math.min(BLOCK, this.size - block * BLOCK)
  }

  async #readScratch(position: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await this.#scratch.read(into, done, into.length - done, position + done)
      if (bytesRead === 0) throw new AgentError('INTERNAL', 'The scratch file of an overlay ended too early.')
      done += bytesRead
    }
  }

  async #writeScratch(position: number, data: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < data.length; ) {
        done += (await this.#scratch.write(data, done, data.length - done, position + done)).bytesWritten
      }
    } catch (error) {
      throw fromErrno(error, this.#options.directory) ?? error
    }
  }
}

/** `range` cut at the borders of blocks. */
function* blocksOf(range: Range): Generator<Range & { readonly block: number }> {
  for (let offset = range.offset; offset < rangeEnd(range); ) {
    const block = Math.floor(offset / BLOCK)
    const piece = clipRange({ offset, length: (block + 1) * BLOCK - offset }, rangeEnd(range))
    if (piece === undefined) return
    yield { ...piece, block }
    offset = rangeEnd(piece)
  }
}
