import type { Abortable, BlockSource, Range } from '../core/index.ts'

/** So many bytes of a disk, and where they lie as they are: in a file (its `ByteSource.name`) from `offset` on, or nowhere, as zeros. */
export type Place = { readonly length: number; readonly file: string | undefined; readonly offset: number }

/** A layer that knows where its bytes lie, uncompressed. */
export interface PlacedSource extends BlockSource {
  /**
   * Where the bytes of `range` lie, in order and gapless; what the layer does not hold is in no file, as zeros. Streams. Undefined where bytes are
   * not in the file as they are.
   */
  readonly places?: ((range: Range, options?: Abortable) => AsyncIterable<Place>) | undefined
}

/** In no file. */
export const zeros = (length: number): Place => ({ length, file: undefined, offset: 0 })

/** Joins neighbours that follow each other in a file. Holds one place at a time. */
export async function* coalescePlaces(places: AsyncIterable<Place>): AsyncGenerator<Place> {
  let current: Place | undefined
  for await (const place of places) {
    if (place.length === 0) continue
    const follows =
      current !== undefined && current.file === place.file && (place.file === undefined || current.offset + current.length === place.offset)
    if (current !== undefined && follows) current = { ...current, length: current.length + place.length }
    else {
      if (current !== undefined) yield current
      current = place
    }
  }
  if (current !== undefined) yield current
}
