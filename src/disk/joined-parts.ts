import { type Abortable, coalesceExtents, type Extent, type Range, throwIfAborted } from '../core/index.ts'
import { checkInside } from './inside.ts'
import type { Place, PlacedSource } from './place.ts'

/** One extent of a disk: its place, and how to open it. The source may be longer than the part, never shorter. */
export type Part = { readonly offset: number; readonly length: number; open(): Promise<PlacedSource> }

/** Files open at once; a 62 TB disk in 2 GiB pieces has 30,000 of them. */
const MAX_OPEN = 64

type Slot = { readonly source: Promise<PlacedSource>; users: number }

/** A disk of several extents, one after the other. Parts are opened when needed and the least recently used ones closed again. */
export class JoinedParts implements PlacedSource {
  readonly size: number
  readonly #name: string
  readonly #parts: readonly Part[]
  readonly #open = new Map<number, Slot>()
  /** Undefined when one part cannot tell. */
  places: PlacedSource['places']

  private constructor(parts: readonly Part[], name: string) {
    this.size = parts.reduce((sum, part) => sum + part.length, 0)
    this.#name = name
    this.#parts = parts
  }

  /** Opens every part once, so that a missing or damaged one is met now and not in the middle of a backup. */
  static async open(parts: readonly Part[], name: string): Promise<JoinedParts> {
    const joined = new JoinedParts(parts, name)
    try {
      let placed = true
      for (const index of parts.keys()) placed = (await joined.#use(index, async (source) => source.places !== undefined)) && placed
      if (placed) joined.places = (range, options) => joined.#places(range, options)
      return joined
    } catch (error) {
      await joined[Symbol.asyncDispose]()
      throw error
    }
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, this.#name)
    throwIfAborted(options)
    const end = offset + into.length
    for (let index = this.#find(offset), at = offset; at < end; index++) {
      const part = this.#part(index)
      const stop = Math.min(part.offset + part.length, end)
      const slice = into.subarray(at - offset, stop - offset)
      const from = at - part.offset
      await this.#use(index, (source) => source.read(from, slice, options))
      at = stop
    }
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, this.#name)
    return coalesceExtents(this.#extents(range, options))
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const end = range.offset + range.length
    for (let index = this.#find(range.offset), at = range.offset; at < end; index++) {
      const part = this.#part(index)
      const stop = Math.min(part.offset + part.length, end)
      const slot = this.#acquire(index)
      try {
        const source = await slot.source
        for await (const extent of source.extents({ offset: at - part.offset, length: stop - at }, options)) {
          yield { ...extent, offset: extent.offset + part.offset }
        }
      } finally {
        slot.users--
      }
      await this.#closeIdle()
      at = stop
    }
  }

  async *#places(range: Range, options?: Abortable): AsyncGenerator<Place> {
    checkInside(range.offset, range.length, this.size, this.#name)
    const end = range.offset + range.length
    for (let index = this.#find(range.offset), at = range.offset; at < end; index++) {
      const part = this.#part(index)
      const length = Math.min(part.offset + part.length, end) - at
      const found: Place[] = []
      const from = at - part.offset
      await this.#use(index, async (source) => {
        for await (const place of source.places?.({ offset: from, length }, options) ?? []) found.push(place)
      })
      yield* found
      at += length
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const slots = [...this.#open.values()]
    this.#open.clear()
    await closeAll(slots)
  }

  async #use<T>(index: number, work: (source: PlacedSource) => Promise<T>): Promise<T> {
    const slot = this.#acquire(index)
    try {
      const result = await work(await slot.source)
      await this.#closeIdle()
      return result
    } finally {
      slot.users--
    }
  }

  #acquire(index: number): Slot {
    const known = this.#open.get(index)
    if (known !== undefined) {
      known.users++
      this.#open.delete(index)
      this.#open.set(index, known)
      return known
    }
    const slot: Slot = { source: this.#part(index).open(), users: 1 }
    this.#open.set(index, slot)
    slot.source.catch(() => {
      if (this.#open.get(index) === slot) this.#open.delete(index)
    })
    return slot
  }

  async #closeIdle(): Promise<void> {
    const idle: Slot[] = []
    for (const [index, slot] of this.#open) {
      if (this.#open.size <= MAX_OPEN) break
      if (slot.users > 0) continue
      this.#open.delete(index)
      idle.push(slot)
    }
    await closeAll(idle)
  }

  #part(index: number): Part {
    const part = this.#parts[index]
    if (part === undefined) throw new RangeError(`part ${index} of ${this.#parts.length}`)
    return part
  }

  /** The part that holds byte `at`; binary search, for there may be thousands. */
  #find(at: number): number {
    let low = 0
    let high = this.#parts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#part(middle).offset <= at) low = middle
      else high = middle - 1
    }
    return low
  }
}

async function closeAll(slots: readonly Slot[]): Promise<void> {
  const closing = slots.map(async (slot) => {
    // A part that could not be opened has nothing to close; whoever opened it was told.
    const source = await slot.source.catch(() => undefined)
    await source?.[Symbol.asyncDispose]()
  })
  for (const result of await Promise.allSettled(closing)) if (result.status === 'rejected') throw result.reason
}
