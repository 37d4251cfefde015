import { type Abortable, AgentError, type BlockSource, type ExtentKind, type Range, rangeEnd } from '../core/index.ts'

/** A part of a block to write: from the source (`data`) or zeros. Offsets are disk bytes. */
export type Piece = Range & { readonly kind: 'data' | 'zero' }

/** One block of the disk that a plan touches, with the parts of it the plan decides, in order. */
export type TouchedBlock = { readonly index: number; readonly pieces: readonly Piece[] }

/**
 * Cuts a plan's ranges, seen through the source's own allocation map, into blocks of `blockSize`. Each touched block comes once, in order.
 * `onlyData` leaves out what is zero: on a full, everything not named is zero anyway. Holds one block at a time.
 * INTERNAL when the plan is out of order or outside the disk, or the source's map has gaps.
 */
export async function* touchedBlocks(
  ranges: AsyncIterable<Range>,
  source: BlockSource,
  blockSize: number,
  options: Abortable & { readonly onlyData: boolean; readonly onDecided: (bytes: number) => void },
): AsyncGenerator<TouchedBlock> {
  let index = -1
  let pieces: Piece[] = []
  for await (const piece of plannedPieces(ranges, source, options)) {
    if (options.onlyData && piece.kind === 'zero') {
      options.onDecided(piece.length)
      continue
    }
    for (let offset = piece.offset; offset < rangeEnd(piece); ) {
      const block = Math.floor(offset / blockSize)
      const length = Math.min(rangeEnd(piece), (block + 1) * blockSize) - offset
      if (block !== index) {
        if (pieces.length > 0) yield { index, pieces }
        index = block
        pieces = []
      }
      append(pieces, { offset, length, kind: piece.kind })
      offset += length
    }
  }
  if (pieces.length > 0) yield { index, pieces }
}

/** The plan's ranges with the source's map laid over them, in order. */
export async function* plannedPieces(ranges: AsyncIterable<Range>, source: BlockSource, options: Abortable): AsyncGenerator<Piece> {
  let decided = 0
  for await (const range of ranges) {
    if (range.length === 0) continue
    if (range.offset < decided || range.length < 0 || rangeEnd(range) > source.size) {
      throw new AgentError(
        'INTERNAL',
        `A plan names bytes ${range.offset} to ${rangeEnd(range)} of a disk of ${source.size}, after ${decided}.`,
      )
    }
    decided = range.offset
    for await (const extent of source.extents(range, options)) {
      if (extent.offset !== decided || rangeEnd(extent) > rangeEnd(range)) {
        throw new AgentError('INTERNAL', `A disk's allocation map jumps to byte ${extent.offset}; ${decided} was next.`)
      }
      decided = rangeEnd(extent)
      if (extent.length > 0) yield { offset: extent.offset, length: extent.length, kind: pieceKind(extent.kind) }
    }
    if (decided !== rangeEnd(range))
      throw new AgentError('INTERNAL', `A disk's allocation map ends at byte ${decided} of ${rangeEnd(range)}.`)
  }
}

/** The ranges of a full plan of everything. */
export async function* wholeDisk(size: number): AsyncGenerator<Range> {
  yield { offset: 0, length: size }
}

/** `absent` at the bottom of a chain is left to the source itself, which answers with zeros or refuses. */
const pieceKind = (kind: ExtentKind): Piece['kind'] => (kind === 'zero' ? 'zero' : 'data')

function append(pieces: Piece[], piece: Piece): void {
  const last = pieces.at(-1)
  if (last !== undefined && last.kind === piece.kind && rangeEnd(last) === piece.offset) {
    pieces[pieces.length - 1] = { ...last, length: last.length + piece.length }
  } else {
    pieces.push(piece)
  }
}
