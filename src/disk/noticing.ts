import type { Abortable, BlockSource, Extent, Range } from '../core/index.ts'

/** The same source; `onFailure` hears of each error of it, so that whoever reads it for somebody else can tell whose error it was. Owns `source`. */
export function noticing(source: BlockSource, onFailure: (error: unknown) => void): BlockSource {
  return Object.freeze({
    size: source.size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      try {
        await source.read(offset, into, options)
      } catch (error) {
        onFailure(error)
        throw error
      }
    },
    async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
      try {
        yield* source.extents(range, options)
      } catch (error) {
        onFailure(error)
        throw error
      }
    },
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  })
}
