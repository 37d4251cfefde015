import { type Abortable, type BlockSource, type Extent, type Range, throwIfAborted } from '../core/index.ts'
import { checkInside } from './inside.ts'
import { openFlat } from './flat.ts'
import { memoryBytes } from './memory-bytes.ts'
import { type Place, type PlacedSource, zeros } from './place.ts'

/**
 * A small disk in memory, for tests and previews. `extents` (ordered, gapless) says what is `zero` or `absent`; those bytes read as
 * zeros whatever `bytes` holds there. Default: all `data`.
 */
export function memorySource(bytes: Uint8Array, extents?: readonly Extent[]): BlockSource {
  const image = Uint8Array.from(bytes)
  for (const extent of extents ?? []) if (extent.kind !== 'data') image.fill(0, extent.offset, extent.offset + extent.length)
  return openFlat(memoryBytes(image, 'a disk in memory', extents))
}

/** A disk of `size` bytes, all zero. */
export function zeroSource(size: number): PlacedSource {
  return Object.freeze({
    size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      checkInside(offset, into.length, size, 'an empty disk')
      throwIfAborted(options)
      into.fill(0)
    },
    async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
      checkInside(range.offset, range.length, size, 'an empty disk')
      throwIfAborted(options)
      if (range.length > 0) yield { ...range, kind: 'zero' }
    },
    async *places(range: Range, options?: Abortable): AsyncGenerator<Place> {
      checkInside(range.offset, range.length, size, 'an empty disk')
      throwIfAborted(options)
      if (range.length > 0) yield zeros(range.length)
    },
    async [Symbol.asyncDispose](): Promise<void> {},
  })
}
