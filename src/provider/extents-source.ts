import { type Abortable, AgentError, type BlockSource, type Extent, type Range, rangeEnd, type FilePlace } from '../core/index.ts'
import type { ImageLayout } from './image-layout.ts'

/** Extents kept open at a time: each holds the ids of its blocks. */
const MOST_OPEN = 8

/** An image in several extents as one source. Extents are opened at first use and closed when others need the room. */
export class ExtentsSource implements BlockSource {
  readonly size: number
  readonly #layout: ImageLayout
  readonly #open: (index: number, options?: Abortable) => Promise<BlockSource>
  /** In the order of use, the last used at the end. */
  readonly #opened = new Map<number, { readonly source: Promise<BlockSource>; users: number }>()

  constructor(layout: ImageLayout, open: (index: number, options?: Abortable) => Promise<BlockSource>) {
    this.size = layout.size
    this.#layout = layout
    this.#open = open
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    if (offset < 0 || offset + into.length > this.size) {
      throw new AgentError('USAGE', `Bytes ${offset} to ${offset + into.length} are outside a disk of ${this.size} bytes.`)
    }
    for (const { index, range } of this.#parts({ offset, length: into.length })) {
      const part = into.subarray(range.offset - offset, rangeEnd(range) - offset)
      await this.#with(index, (extent) => extent.read(range.offset - this.#layout.startOf(index), part, options))
    }
  }

  async writeTo(range: Range, { descriptor, at }: FilePlace, options?: Abortable): Promise<number | undefined> {
    let written = 0
    for (const { index, range: part } of this.#parts(range)) {
      const inside = { offset: part.offset - this.#layout.startOf(index), length: part.length }
      const place = { descriptor, at: at + part.offset - range.offset }
      const bytes = await this.#with(index, (extent) => extent.writeTo?.(inside, place, options) ?? Promise.resolve(undefined))
      if (bytes === undefined) return undefined
      written += bytes
    }
    return written
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    for (const { index, range: part } of this.#parts(range)) {
      const start = this.#layout.startOf(index)
      const entry = await this.#take(index)
      try {
        const inside = { offset: part.offset - start, length: part.length }
        for await (const extent of (await entry.source).extents(inside, options)) yield { ...extent, offset: extent.offset + start }
      } finally {
        entry.users--
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = [...this.#opened.values()]
    this.#opened.clear()
    const results = await Promise.allSettled(opened.map(async ({ source }) => (await source)[Symbol.asyncDispose]()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  *#parts(range: Range): Generator<{ index: number; range: Range }> {
    const step = this.#layout.extentBytes ?? this.#layout.size
    for (let offset = range.offset; offset < rangeEnd(range); ) {
      const index = Math.floor(offset / step)
      const end = Math.min(rangeEnd(range), (index + 1) * step)
      yield { index, range: { offset, length: end - offset } }
      offset = end
    }
  }

  async #with<T>(index: number, use: (extent: BlockSource) => Promise<T>): Promise<T> {
    const entry = await this.#take(index)
    try {
      return await use(await entry.source)
    } finally {
      entry.users--
    }
  }

  async #take(index: number): Promise<{ readonly source: Promise<BlockSource>; users: number }> {
    let entry = this.#opened.get(index)
    if (entry === undefined) entry = { source: this.#open(index), users: 0 }
    else this.#opened.delete(index)
    entry.users++
    this.#opened.set(index, entry)
    await this.#evict()
    try {
      await entry.source
    } catch (error) {
      // The next use tries again.
      if (this.#opened.get(index) === entry) this.#opened.delete(index)
      throw error
    }
    return entry
  }

  async #evict(): Promise<void> {
    for (const [index, entry] of this.#opened) {
      if (this.#opened.size <= MOST_OPEN) return
      if (entry.users > 0) continue
      this.#opened.delete(index)
      await (await entry.source)[Symbol.asyncDispose]()
    }
  }
}
