import { type Abortable, clipRange, coalesceExtents, type Extent, mergeRanges, type Range } from '../core/index.ts'
import { checkInside } from './inside.ts'
import { coalescePlaces, type Place, type PlacedSource, zeros } from './place.ts'

const SLICE = 1024 * 1024
/** Absent runs closer than this are read from the parent in one go. */
const GAP = 32 * 1024

/**
 * `top` where it holds something, `parent` where it is absent; past the end of a shorter parent (the disk was grown in between) zeros.
 * What is absent in both stays absent. Owns both.
 */
export function overlay(top: PlacedSource, parent: PlacedSource): PlacedSource {
  return new Overlay(top, parent)
}

class Overlay implements PlacedSource {
  readonly size: number
  readonly places: PlacedSource['places']
  readonly #top: PlacedSource
  readonly #parent: PlacedSource

  constructor(top: PlacedSource, parent: PlacedSource) {
    this.size = top.size
    this.#top = top
    this.#parent = parent
    if (top.places !== undefined && parent.places !== undefined)
      this.places = (range, options) => coalescePlaces(this.#places(range, options))
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, 'the disk')
    for (let done = 0; done < into.length; done += SLICE) {
      await this.#readSlice(offset + done, into.subarray(done, done + SLICE), options)
    }
  }

  async #readSlice(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const absent: Range[] = []
    let missing = 0
    for await (const extent of this.#top.extents({ offset, length: into.length }, options)) {
      if (extent.kind !== 'absent') continue
      absent.push(extent)
      missing += extent.length
    }
    if (missing < into.length) await this.#top.read(offset, into, options)
    if (missing === 0) return
    for (const span of mergeRanges(absent, GAP)) {
      const inside = absent.filter((range) => range.offset >= span.offset && range.offset < span.offset + span.length)
      if (inside.length === 1) {
        await this.#readParent(span.offset, into.subarray(span.offset - offset, span.offset - offset + span.length), options)
        continue
      }
      const buffer = Buffer.allocUnsafe(span.length)
      await this.#readParent(span.offset, buffer, options)
      for (const range of inside) {
        into.set(buffer.subarray(range.offset - span.offset, range.offset - span.offset + range.length), range.offset - offset)
      }
    }
  }

  async #readParent(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const length = clipRange({ offset, length: into.length }, this.#parent.size)?.length ?? 0
    if (length > 0) await this.#parent.read(offset, into.subarray(0, length), options)
    into.fill(0, length)
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, 'the disk')
    return coalesceExtents(this.#extents(range, options))
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    for await (const extent of this.#top.extents(range, options)) {
      if (extent.kind !== 'absent') {
        yield extent
        continue
      }
      const below = clipRange(extent, this.#parent.size)
      if (below !== undefined) yield* this.#parent.extents(below, options)
      const known = below === undefined ? 0 : below.length
      if (known < extent.length) yield { offset: extent.offset + known, length: extent.length - known, kind: 'zero' }
    }
  }

  async *#places(range: Range, options?: Abortable): AsyncGenerator<Place> {
    checkInside(range.offset, range.length, this.size, 'the disk')
    for await (const extent of this.#top.extents(range, options)) {
      if (extent.kind === 'zero') yield zeros(extent.length)
      else if (extent.kind === 'data') yield* this.#top.places?.(extent, options) ?? []
      else {
        const below = clipRange(extent, this.#parent.size)
        if (below !== undefined) yield* this.#parent.places?.(below, options) ?? []
        yield zeros(extent.length - (below?.length ?? 0))
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#top[Symbol.asyncDispose]()
    } finally {
      await this.#parent[Symbol.asyncDispose]()
    }
  }
}
