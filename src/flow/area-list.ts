import { type Range, rangeEnd } from '../core/index.ts'

/** Areas kept before neighbours are joined over a growing gap: 256 Ki areas, 4 MiB of memory. */
const DEFAULT_LIMIT = 256 * 1024
const FIRST_GAP = 64 * 1024

/**
 * Ordered byte ranges in bounded memory. The flow gathers a disk's whole answer from change tracking here before a byte is read, so that a
 * query that fails or lies half-way makes the disk a full read instead of a wrong one. Past `limit` ranges, neighbours are joined over a gap
 * that doubles until they fit: more is read than needed, never less.
 */
export class AreaList {
  #pairs: Float64Array
  #count = 0
  #gap = 0
  readonly #limit: number

  constructor(limit = DEFAULT_LIMIT) {
    this.#limit = limit
    this.#pairs = new Float64Array(Math.min(limit, 1024) * 2)
  }

  static async from(ranges: AsyncIterable<Range> | Iterable<Range>, limit?: number): Promise<AreaList> {
    const list = new AreaList(limit)
    for await (const range of ranges) list.add(range)
    return list
  }

  /** Number of ranges held. */
  get count(): number {
    return this.#count
  }

  /** Sum of the ranges' lengths, bytes. */
  get bytes(): number {
    let sum = 0
    for (let index = 0; index < this.#count; index++) sum += this.#pairs[index * 2 + 1] ?? 0
    return sum
  }

  /** Appends a range that does not begin before the last one; touching and overlapping ranges are joined. */
  add(range: Range): void {
    if (range.length <= 0) return
    if (this.#count > 0) {
      const at = (this.#count - 1) * 2
      const lastOffset = this.#pairs[at] ?? 0
      const lastEnd = lastOffset + (this.#pairs[at + 1] ?? 0)
      if (range.offset < lastOffset) throw new RangeError('ranges must come in order')
      if (range.offset <= lastEnd + this.#gap) {
        this.#pairs[at + 1] = Math.max(lastEnd, rangeEnd(range)) - lastOffset
        return
      }
    }
    if (this.#count === this.#limit) {
      this.#thin()
      this.add(range)
      return
    }
    if (this.#count * 2 === this.#pairs.length) {
      const larger = new Float64Array(Math.min(this.#limit, this.#count * 2) * 2)
      larger.set(this.#pairs)
      this.#pairs = larger
    }
    this.#pairs[this.#count * 2] = range.offset
    this.#pairs[this.#count * 2 + 1] = range.length
    this.#count++
  }

  *[Symbol.iterator](): Generator<Range> {
    for (let index = 0; index < this.#count; index++) yield { offset: this.#pairs[index * 2] ?? 0, length: this.#pairs[index * 2 + 1] ?? 0 }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Range> {
    for (const range of this) yield range
  }

  /** Joins neighbours over doubling gaps until a quarter of the room is free. */
  #thin(): void {
    while (this.#count > this.#limit * 0.75) {
      this.#gap = this.#gap === 0 ? FIRST_GAP : this.#gap * 2
      const ranges = [...this]
      this.#count = 0
      for (const range of ranges) this.add(range)
    }
  }
}
