import { rangeEnd } from '../core/index.ts'
import type { StreamGrain } from '../disk/index.ts'

/** A part of the disk of which it is known whether it holds data. */
export type Known = { readonly offset: number; readonly length: number; readonly kind: 'data' | 'zero' }

/**
 * The last grains of a stream that goes by once, up to a number of bytes: between `floor` and `frontier` it is known of every byte what it is,
 * below `floor` nothing is known any more, above `frontier` nothing yet.
 */
export class GrainWindow {
  readonly #limit: number
  readonly #grains: StreamGrain[] = []
  #bytes = 0
  #floor = 0
  #frontier = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get floor(): number {
    return this.#floor
  }

  get frontier(): number {
    return this.#frontier
  }

  /** The stream has come to `frontier`, by a grain that ends there or by its end. Nothing is let go of yet. */
  advance(frontier: number, grain: StreamGrain | undefined): void {
    if (grain !== undefined) {
      this.#grains.push(grain)
      this.#bytes += grain.data.length
    }
    this.#frontier = frontier
  }

  /** Lets go of the oldest grains that are too many. */
  trim(): void {
    while (this.#bytes > this.#limit) {
      const oldest = this.#grains.shift()
      if (oldest === undefined) return
      this.#bytes -= oldest.data.length
      this.#floor = endOf(oldest)
    }
  }

  /** Back to the beginning of the disk: the stream starts anew. */
  clear(): void {
    this.#grains.length = 0
    this.#bytes = 0
    this.#floor = 0
    this.#frontier = 0
  }

  /** Fills `into` with the bytes at `offset`, all of which are known. */
  copy(offset: number, into: Uint8Array): void {
    into.fill(0)
    const end = offset + into.length
    for (let index = this.#firstEndingAfter(offset); index < this.#grains.length; index++) {
      const grain = this.#grains[index]
      if (grain === undefined || grain.offset >= end) return
      const from = Math.max(offset, grain.offset)
      const to = Math.min(end, endOf(grain))
      into.set(grain.data.subarray(from - grain.offset, to - grain.offset), from - offset)
    }
  }

  /** What begins at `offset`, which is known: a piece of data or of zeros, up to `end` or the frontier. */
  at(offset: number, end: number): Known {
    const stop = Math.min(end, this.#frontier)
    const next = this.#grains[this.#firstEndingAfter(offset)]
    const zeroEnd = Math.min(stop, next?.offset ?? stop)
    if (zeroEnd > offset) return { offset, length: zeroEnd - offset, kind: 'zero' }
    return { offset, length: Math.min(stop, next === undefined ? stop : endOf(next)) - offset, kind: 'data' }
  }

  /** Bytes of grains that lie wholly above `offset`. */
  bytesAbove(offset: number): number {
    let bytes = 0
    for (let index = this.#grains.length - 1; index >= 0; index--) {
      const grain = this.#grains[index]
      if (grain === undefined || grain.offset < offset) break
      bytes += grain.data.length
    }
    return bytes
  }

  #firstEndingAfter(offset: number): number {
    let low = 0
    let high = this.#grains.length
    while (low < high) {
      const middle = (low + high) >> 1
      const grain = this.#grains[middle]
      if (grain !== undefined && endOf(grain) <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
}

const endOf = (grain: StreamGrain): number => rangeEnd({ offset: grain.offset, length: grain.data.length })
