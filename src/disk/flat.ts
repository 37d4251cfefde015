import { type Abortable, AgentError, type Extent, type Range, throwIfAborted } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import { checkInside } from './inside.ts'
import type { Place, PlacedSource } from './place.ts'

/**
 * A raw image, or the part `range` of one, as a layer: holes of the file are `zero`, the rest is `data`, nothing is absent. Owns `bytes`
 * (not when it throws). Errors: INTEGRITY when the file is shorter than `range`.
 */
export function openFlat(bytes: ByteSource, range: Range = { offset: 0, length: bytes.size }): PlacedSource {
  if (range.offset + range.length > bytes.size) {
    throw new AgentError('INTEGRITY', `${bytes.name} has ${bytes.size} bytes, but the disk needs ${range.offset + range.length}.`, {
      subject: bytes.name,
      next: 'The file was cut or belongs to another disk; compare it with the descriptor.',
    })
  }
  return new FlatLayer(bytes, range)
}

class FlatLayer implements PlacedSource {
  readonly size: number
  readonly #bytes: ByteSource
  readonly #start: number

  constructor(bytes: ByteSource, range: Range) {
    this.size = range.length
    this.#bytes = bytes
    this.#start = range.offset
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, this.#bytes.name)
    throwIfAborted(options)
    if (into.length > 0) await this.#bytes.read(this.#start + offset, into, options)
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, this.#bytes.name)
    throwIfAborted(options)
    if (range.length === 0) return
    const stored = this.#bytes.dataExtents?.({ offset: this.#start + range.offset, length: range.length }, options)
    if (stored === undefined) yield { ...range, kind: 'data' }
    else for await (const extent of stored) yield { ...extent, offset: extent.offset - this.#start }
  }

  async *places(range: Range, options?: Abortable): AsyncGenerator<Place> {
    checkInside(range.offset, range.length, this.size, this.#bytes.name)
    throwIfAborted(options)
    if (range.length > 0) yield { length: range.length, file: this.#bytes.name, offset: this.#start + range.offset }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bytes[Symbol.asyncDispose]()
  }
}
