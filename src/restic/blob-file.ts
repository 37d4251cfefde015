import {
  type Abortable,
  AgentError,
  type BlockSource,
  coalesceExtents,
  type Extent,
  type Range,
  rangeEnd,
  throwIfAborted,
} from '../core/index.ts'
import type { BlobIds } from './ids.ts'
import { zeroBlockId } from './zero-block.ts'

/** Blobs of one `read` fetched at once. */
const AT_ONCE = 4

type ReadBlob = (id: Uint8Array, options?: Abortable) => Promise<Uint8Array>

/**
 * A file of a snapshot as a block source. Blocks of one constant size (what we write) are found by division; other files (restic's
 * chunks) by binary search over their offsets.
 */
export class BlobFile implements BlockSource {
  readonly size: number
  readonly #name: string
  readonly #content: BlobIds
  readonly #read: ReadBlob
  /** Constant block size, or the beginning of each blob and the end. */
  readonly #blocks: number | Float64Array

  private constructor(name: string, size: number, content: BlobIds, blocks: number | Float64Array, read: ReadBlob) {
    this.#name = name
    this.size = size
    this.#content = content
    this.#blocks = blocks
    this.#read = read
  }

  /** `lengths` = plain length of each blob. INTEGRITY when they do not add up to `size`. */
  static open(name: string, size: number, content: BlobIds, lengths: Float64Array, read: ReadBlob): BlobFile {
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
    if (constant) return new BlobFile(name, size, content, first, read)
    const starts = new Float64Array(lengths.length + 1)
    for (const [index, length] of lengths.entries()) starts[index + 1] = (starts[index] ?? 0) + length
    return new BlobFile(name, size, content, starts, read)
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    this.#inside({ offset, length: into.length })
    if (into.length === 0) return
    const end = offset + into.length
    const last = this.#find(end - 1)
    let next = this.#find(offset)
    const lane = async (): Promise<void> => {
      while (next <= last) {
        const block = next++
        await this.#copy(block, offset, into, options)
      }
    }
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, last - next + 1) }, lane))
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
    if (this.#isZero(block)) target.fill(0)
    else target.set((await this.#read(this.#content.at(block), options)).subarray(from - start, to - start))
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
