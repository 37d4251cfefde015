import { type Abortable, type BlockSource, type Extent, MIB, type Range } from '../core/index.ts'

/** A read is dealt out in pieces of this size. Bytes. */
const PIECE = MIB

/**
 * Several sources of the same disk as one: the pieces of a read go to the source that has the fewest on their way. The first source answers for the
 * extents. Owns them all.
 */
export function striped(sources: readonly [BlockSource, ...BlockSource[]]): BlockSource {
  return sources.length === 1 ? sources[0] : new StripedSource(sources)
}

class StripedSource implements BlockSource {
  readonly size: number
  readonly #lanes: { readonly source: BlockSource; underWay: number }[]
  readonly #first: BlockSource

  constructor(sources: readonly [BlockSource, ...BlockSource[]]) {
    this.#first = sources[0]
    this.size = this.#first.size
    this.#lanes = sources.map((source) => ({ source, underWay: 0 }))
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const pieces: Promise<void>[] = []
    for (let at = 0; at < into.length; at += PIECE) pieces.push(this.#piece(offset + at, into.subarray(at, at + PIECE), options))
    // All have ended before the caller gets its buffer back, also when one failed.
    for (const result of await Promise.allSettled(pieces)) if (result.status === 'rejected') throw result.reason
  }

  extents(range: Range, options?: Abortable): AsyncIterable<Extent> {
    return this.#first.extents(range, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack()
    for (const { source } of this.#lanes) stack.use(source)
  }

  async #piece(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const lane = this.#lanes.reduce((best, each) => (each.underWay < best.underWay ? each : best))
    lane.underWay++
    try {
      await lane.source.read(offset, into, options)
    } finally {
      lane.underWay--
    }
  }
}
