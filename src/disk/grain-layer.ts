import { type Abortable, type Extent, type Range, rangeEnd } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import { ABSENT_GRAIN, GrainIndex, type GrainMap, type GrainTable } from './grain-index.ts'
import { checkInside } from './inside.ts'
import { coalescePlaces, type Place, type PlacedSource, zeros } from './place.ts'
import { type Piece, readScattered } from './scattered-read.ts'

/** A read is worked off in slices of this size, so that its list of pieces stays small. */
const SLICE = 8 * 1024 * 1024

/** A layer made of a directory, tables and uncompressed grains: hosted sparse, COWD and seSparse. Owns `bytes`. */
export class GrainLayer implements PlacedSource {
  readonly size: number
  readonly #bytes: ByteSource
  readonly #index: GrainIndex

  constructor(bytes: ByteSource, map: GrainMap) {
    this.size = map.size
    this.#bytes = bytes
    this.#index = new GrainIndex(map)
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, this.#bytes.name)
    for (let done = 0; done < into.length; done += SLICE) {
      const slice = into.subarray(done, done + SLICE)
      await readScattered(this.#bytes, await this.#pieces(offset + done, slice, options), options)
    }
  }

  /** What must be read for a slice, grains that follow each other in the file joined; everything else of it is filled with zeros. */
  async #pieces(offset: number, into: Uint8Array, options?: Abortable): Promise<Piece[]> {
    const { grainBytes } = this.#index
    const pieces: Piece[] = []
    let run: { position: number; from: number; length: number } | undefined
    const endRun = (): void => {
      if (run !== undefined) pieces.push({ position: run.position, into: into.subarray(run.from, run.from + run.length) })
      run = undefined
    }
    for (let done = 0; done < into.length; ) {
      const { table, start, end } = await this.#index.at(offset + done, options)
      const stop = Math.min(end - offset, into.length)
      if (table === undefined) {
        endRun()
        into.fill(0, done, stop)
        done = stop
      }
      while (done < stop) {
        const inTable = offset + done - start
        const grain = Math.floor(inTable / grainBytes)
        const inGrain = inTable - grain * grainBytes
        const length = Math.min(grainBytes - inGrain, stop - done)
        const position = table?.[grain] ?? ABSENT_GRAIN
        if (position <= 0) {
          endRun()
          into.fill(0, done, done + length)
        } else if (run !== undefined && run.position + run.length === position + inGrain) {
          run.length += length
        } else {
          endRun()
          run = { position: position + inGrain, from: done, length }
        }
        done += length
      }
    }
    endRun()
    return pieces
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, this.#bytes.name)
    return this.#index.extents(range, options)
  }

  places(range: Range, options?: Abortable): AsyncGenerator<Place> {
    checkInside(range.offset, range.length, this.size, this.#bytes.name)
    return coalescePlaces(this.#places(range, options))
  }

  async *#places(range: Range, options?: Abortable): AsyncGenerator<Place> {
    for (let at = range.offset; at < rangeEnd(range); ) {
      const view = await this.#index.at(at, options)
      const stop = Math.min(view.end, rangeEnd(range))
      if (view.table === undefined) yield zeros(stop - at)
      else yield* this.#inTable(view.table, view.start, { offset: at, length: stop - at })
      at = stop
    }
  }

  *#inTable(table: GrainTable, start: number, range: Range): Generator<Place> {
    const { grainBytes } = this.#index
    for (let at = range.offset; at < rangeEnd(range); ) {
      const grain = Math.floor((at - start) / grainBytes)
      const inGrain = at - start - grain * grainBytes
      const length = Math.min(grainBytes - inGrain, rangeEnd(range) - at)
      const position = table[grain] ?? ABSENT_GRAIN
      yield position <= 0 ? zeros(length) : { length, file: this.#bytes.name, offset: position + inGrain }
      at += length
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bytes[Symbol.asyncDispose]()
  }
}
