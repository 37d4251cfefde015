import {
  type Abortable,
  AgentError,
  allEnded,
  type BlockSource,
  coalesceExtents,
  type Extent,
  fillWithZeros,
  type Range,
  rangeEnd,
  throwIfAborted,
  type FilePlace,
} from '../core/index.ts'
import type { BlobIds } from './ids.ts'
import type { BlobReader, BlockToRead, BlockToWrite } from './repository.ts'
import { zeroBlockId } from './zero-block.ts'

/** Blobs of one `read` fetched at once through the cache. */
const AT_ONCE = 4
/** Whole blocks are opened together, past the cache, from so many bytes on: less is not worth a word to a thread. */
const TOGETHER_BYTES = 128 * 1024

/** What reads blobs: one through the cache, or many at once. */
type Blobs = Pick<BlobReader, 'read' | 'readBlocks' | 'writeBlocks'>

/**
 * A file of a snapshot as a block source. Blocks of one constant size (what we write) are found by division; other files (restic's
 * chunks) by binary search over their offsets.
 */
export class BlobFile implements BlockSource {
  readonly size: number
  readonly #name: string
  readonly #content: BlobIds
  readonly #blobs: Blobs
  /** Constant block size, or the beginning of each blob and the end. */
  readonly #blocks: number | Float64Array

  private constructor(name: string, size: number, content: BlobIds, blocks: number | Float64Array, blobs: Blobs) {
    this.#name = name
    this.size = size
    this.#content = content
    this.#blocks = blocks
    this.#blobs = blobs
  }

  /** `lengths` = plain length of each blob. INTEGRITY when they do not add up to `size`. */
  static open(name: string, size: number, content: BlobIds, lengths: Float64Array, blobs: Blobs): BlobFile {
    const first = lengths[0] ?? 1
    let constant = true
    let sum = 0
    for (const [index, length] of lengths.entries()) {
      sum += length
      if (length !== first && (index !== lengths.length - 1 || length > first)) constant = false
    }
    if (sum !== size) {
      throw new AgentError('INTEGRITY', `The blocks of ${JSON.stringify(name)} hold ${sum} bytes; the file is ${size} bytes long.`, {
        subject: name,
      })
    }
    if (constant) return new BlobFile(name, size, content, first, blobs)
    const starts = new Float64Array(lengths.length + 1)
    for (const [index, length] of lengths.entries()) starts[index + 1] = (starts[index] ?? 0) + length
    return new BlobFile(name, size, content, starts, blobs)
  }

  /** One whose blobs are known to be of `blockBytes`, but the last. INTEGRITY when there are more or fewer than that makes of `size`. */
  static cut(name: string, size: number, content: BlobIds, blockBytes: number, blobs: Blobs): BlobFile {
    if (content.length === Math.ceil(size / blockBytes)) return new BlobFile(name, size, content, blockBytes, blobs)
    throw new AgentError(
      'INTEGRITY',
      `${JSON.stringify(name)} of ${size} bytes names ${content.length} blocks; of ${blockBytes} bytes each it would have others.`,
      { subject: name },
    )
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    this.#inside({ offset, length: into.length })
    if (into.length === 0) return
    const end = offset + into.length
    const last = this.#find(end - 1)
    const whole: BlockToRead[] = []
    const others: number[] = []
    let bytes = 0
    for (let block = this.#find(offset); block <= last; block++) {
      const [start, stop] = [this.#start(block), this.#start(block + 1)]
      if (start < offset || stop > end || this.#isZero(block)) {
        others.push(block)
        continue
      }
      whole.push({ id: this.#content.at(block), into: into.subarray(start - offset, stop - offset) })
      bytes += stop - start
    }
    if (bytes >= TOGETHER_BYTES) {
      await allEnded([this.#blobs.readBlocks(whole, options), this.#oneByOne(others, offset, into, options)])
      return
    }
    const all = Array.from({ length: last - this.#find(offset) + 1 }, (_, index) => this.#find(offset) + index)
    await this.#oneByOne(all, offset, into, options)
  }

  /** Where `range` holds whole blocks: only those of disk images are found by division. */
  async writeTo(range: Range, place: FilePlace, options?: Abortable): Promise<number | undefined> {
    this.#inside(range)
    const blocks: BlockToWrite[] = []
    for (let at = range.offset; at < rangeEnd(range); ) {
      const block = this.#find(at)
      const length = this.#start(block + 1) - at
      if (this.#start(block) !== at || at + length > rangeEnd(range)) return undefined
      if (!this.#isZero(block)) blocks.push({ id: this.#content.at(block), at: place.at + at - range.offset, bytes: length })
      at += length
    }
    return await this.#blobs.writeBlocks(blocks, place.descriptor, options)
  }

  async #oneByOne(blocks: number[], offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const lane = async (): Promise<void> => {
      for (let block = blocks.shift(); block !== undefined; block = blocks.shift()) await this.#copy(block, offset, into, options)
    }
    await allEnded(Array.from({ length: Math.min(AT_ONCE, blocks.length) }, lane))
  }

  extents(range: Range, options?: Abortable): AsyncIterable<Extent> {
    this.#inside(range)
    return coalesceExtents(this.#extents(range, options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The repository owns what is open.
  }

  *#extents(range: Range, options?: Abortable): Generator<Extent> {
    const end = rangeEnd(range)
    for (let at = range.offset; at < end; ) {
      throwIfAborted(options)
      const block = this.#find(at)
      const stop = Math.min(end, this.#start(block + 1))
      yield { offset: at, length: stop - at, kind: this.#isZero(block) ? 'zero' : 'data' }
      at = stop
    }
  }

  async #copy(block: number, offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const start = this.#start(block)
    const from = Math.max(start, offset)
    const to = Math.min(this.#start(block + 1), offset + into.length)
    const target = into.subarray(from - offset, to - offset)
    throwIfAborted(options)
    if (this.#isZero(block)) fillWithZeros(target)
    else target.set((await this.#blobs.read(this.#content.at(block), options)).subarray(from - start, to - start))
  }

  /** Only asked of constant blocks: the id of zeros of every length that restic's chunker cuts would cost more than reading them. */
  #isZero(block: number): boolean {
    if (typeof this.#blocks !== 'number') return false
    return Buffer.compare(this.#content.at(block), zeroBlockId(this.#start(block + 1) - this.#start(block))) === 0
  }

  #start(block: number): number {
    return typeof this.#blocks === 'number' ? Math.min(this.size, block * this.#blocks) : (this.#blocks[block] ?? this.size)
  }

  /** Number of the block that holds the byte at `offset`. */
  #find(offset: number): number {
    if (typeof this.#blocks === 'number') return Math.floor(offset / this.#blocks)
    let low = 0
    let high = this.#content.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#blocks[middle] ?? 0) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  #inside(range: Range): void {
    if (range.offset < 0 || range.length < 0 || rangeEnd(range) > this.size) {
      throw new AgentError(
        'USAGE',
        `Bytes ${range.offset} to ${rangeEnd(range)} are outside ${JSON.stringify(this.#name)} of ${this.size} bytes.`,
      )
    }
  }
}
