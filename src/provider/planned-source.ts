import { type Abortable, type BlockSource, type Extent, type Range, rangeEnd } from '../core/index.ts'
import type { DiskProgress } from './provider.ts'

/**
 * A source seen through a plan: outside the plan's segments it reads as zeros, without asking the source. Counts what is really read.
 * Does not own the source.
 */
export class PlannedSource implements BlockSource {
  readonly size: number
  readBytes = 0
  readonly #source: BlockSource
  readonly #segments: readonly Range[]

  constructor(source: BlockSource, segments: readonly Range[]) {
    this.size = source.size
    this.#source = source
    this.#segments = segments
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const end = offset + into.length
    let at = offset
    for (let index = this.#firstEndingAfter(offset); at < end; index++) {
      const segment = this.#segments[index]
      const start = Math.min(end, Math.max(at, segment?.offset ?? end))
      into.fill(0, at - offset, start - offset)
      const stop = Math.min(end, segment === undefined ? end : rangeEnd(segment))
      if (stop > start) await this.#readData({ offset: start, length: stop - start }, into.subarray(start - offset, stop - offset), options)
      at = Math.max(start, stop)
    }
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const end = rangeEnd(range)
    let at = range.offset
    for (let index = this.#firstEndingAfter(at); at < end; index++) {
      const segment = this.#segments[index]
      const start = Math.min(end, Math.max(at, segment?.offset ?? end))
      if (start > at) yield { offset: at, length: start - at, kind: 'zero' }
      const stop = Math.min(end, segment === undefined ? end : rangeEnd(segment))
      if (stop > start) yield* this.#source.extents({ offset: start, length: stop - start }, options)
      at = Math.max(start, stop)
    }
  }

  /** What `onProgress` of an export says, in the terms of a plan. */
  progress(doneBytes: number, storedBytes: number, changedBytes: number): DiskProgress {
    return { doneBytes: Math.round((doneBytes / this.size) * changedBytes), readBytes: this.readBytes, storedBytes }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The source belongs to whoever made the plan.
  }

  /** A format may ask for a whole grain of which a part is known to be zero. */
  async #readData(range: Range, into: Uint8Array, options?: Abortable): Promise<void> {
    for await (const extent of this.#source.extents(range, options)) {
      const part = into.subarray(extent.offset - range.offset, rangeEnd(extent) - range.offset)
      if (extent.kind === 'zero') {
        part.fill(0)
        continue
      }
      await this.#source.read(extent.offset, part, options)
      this.readBytes += part.length
    }
  }

  #firstEndingAfter(offset: number): number {
    let low = 0
    let high = this.#segments.length
    while (low < high) {
      const middle = (low + high) >> 1
      const segment = this.#segments[middle]
      if (segment !== undefined && rangeEnd(segment) <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
