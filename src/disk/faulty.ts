import type { Abortable, BlockSource, Extent, Range } from '../core/index.ts'

/** One call about to be made on a source. `count` numbers the calls of that kind, from 1. */
export type SourceCall = { readonly kind: 'read' | 'extents'; readonly range: Range; readonly count: number }

/**
 * Breaks a source by rule, for tests of whoever reads from it: `fault` is asked before each call and throws what shall be met. Owns
 * `source`.
 */
export function faulty(source: BlockSource, fault: (call: SourceCall) => void | Promise<void>): BlockSource {
  let reads = 0
  let listings = 0
  return Object.freeze({
    size: source.size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      await fault({ kind: 'read', range: { offset, length: into.length }, count: ++reads })
      await source.read(offset, into, options)
    },
    async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
      await fault({ kind: 'extents', range, count: ++listings })
      yield* source.extents(range, options)
    },
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  })
}
