import {
  type Abortable,
  AgentError,
  type BlockSource,
  coalesceExtents,
  type Extent,
  type Range,
  rangeEnd,
  throwIfAborted,
} from '../../core/index.ts'

/** Consecutive bytes of a view that lie consecutively on one disk. */
export type Piece = { readonly source: BlockSource; readonly offset: number; readonly length: number }

/** A stretch of a view. `locate` tells where the byte `at` of the stretch lies, and how many behind it (to the end of the stretch at most) lie in a row. */
export type Stretch = { readonly length: number; locate(at: number): Piece }

/** A stretch that is one run of a disk. */
export const run = (source: BlockSource, offset: number, length: number): Stretch => ({
  length,
  locate: (at) => ({ source, offset: offset + at, length: length - at }),
})

/**
 * A window on disks: a partition, or a logical volume put together from several. The disks own the bytes and are not disposed with it.
 * Errors: those of the disks; USAGE outside the view.
 */
export function diskView(stretches: readonly Stretch[]): BlockSource {
  const placed: { readonly offset: number; readonly stretch: Stretch }[] = []
  let size = 0
  for (const stretch of stretches) {
    placed.push({ offset: size, stretch })
    size += stretch.length
  }
  return Object.freeze(new DiskView(placed, size))
}

class DiskView implements BlockSource {
  readonly size: number
  readonly #placed: readonly { readonly offset: number; readonly stretch: Stretch }[]

  constructor(placed: readonly { readonly offset: number; readonly stretch: Stretch }[], size: number) {
    this.#placed = placed
    this.size = size
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    this.#check(offset, into.length)
    for (const piece of this.#pieces({ offset, length: into.length })) {
      const at = piece.at - offset
      await piece.source.read(piece.offset, into.subarray(at, at + piece.length), options)
    }
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    this.#check(range.offset, range.length)
    yield* coalesceExtents(this.#extents(range, options))
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    for (const piece of this.#pieces(range)) {
      throwIfAborted(options)
      for await (const extent of piece.source.extents({ offset: piece.offset, length: piece.length }, options)) {
        yield { ...extent, offset: extent.offset - piece.offset + piece.at }
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  *#pieces(range: Range): Generator<Piece & { readonly at: number }> {
    const end = rangeEnd(range)
    let at = range.offset
    let index = this.#indexOf(at)
    while (at < end) {
      const placed = this.#placed[index]
      if (placed === undefined) return
      if (at >= placed.offset + placed.stretch.length) {
        index++
        continue
      }
      const piece = placed.stretch.locate(at - placed.offset)
      const length = Math.min(piece.length, end - at)
      yield { source: piece.source, offset: piece.offset, length, at }
      at += length
    }
  }

  /** The last stretch that begins at or before `at`. */
  #indexOf(at: number): number {
    let low = 0
    let high = this.#placed.length - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((this.#placed[middle]?.offset ?? 0) <= at) low = middle
      else high = middle - 1
    }
    return low
  }

  #check(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new AgentError('USAGE', `The bytes ${offset} to ${offset + length} lie outside a volume of ${this.size}.`, {
      next: 'Report this with the log of the run; it is a defect of vcb.',
    })
  }
}
