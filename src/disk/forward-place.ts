import { type BlockSource, type Range, rangeEnd } from '../core/index.ts'
import { PieceAhead } from './piece-ahead.ts'
import { PIECE_BYTES, type ReadAheadRoom, type ReadsAhead } from './read-ahead-room.ts'

/** Pieces ahead of the reader, at most; the second read in a row begins with one. */
const MOST_AHEAD = 4
/** Reads of one reader come in any order within so many bytes. */
const DISORDER = PIECE_BYTES
/** How far data is looked for in one go, and at most ahead of the reader: beyond a longer hole he begins anew. */
const LOOK_BYTES = 16 * PIECE_BYTES
const HORIZON_BYTES = 64 * PIECE_BYTES

export type ForwardPlaceParts = {
  readonly source: BlockSource
  readonly room: ReadAheadRoom
  /** Ends looking for data. */
  readonly closing: AbortSignal
  /** Told of each read, until it has ended. */
  readonly watch: (work: Promise<void>) => void
  /** Whether another place has passed there: its reader has had that already. */
  readonly isReadElsewhere: (offset: number) => boolean
  readonly onEnd: (place: ForwardPlace) => void
}

/** A place of a disk that somebody reads forwards from, and what is read ahead of him: only data, holes are passed over. */
export class ForwardPlace implements ReadsAhead {
  readonly #parts: ForwardPlaceParts
  readonly #pieces: PieceAhead[] = []
  readonly #start: number
  /** The end of the furthest read. */
  #position: number
  #reads = 0
  /** Where looking for data has come to, and what was found that is not begun. */
  #looked: number
  #found: Range[] = []
  #extending = false
  #ended = false

  constructor(position: number, parts: ForwardPlaceParts) {
    this.#parts = parts
    this.#start = position
    this.#position = position
    this.#looked = position
  }

  /** How far a read at `offset` is from where the last one ended; undefined when it does not go on from here, at once or behind a hole. */
  distance(offset: number): number | undefined {
    const distance = Math.abs(offset - this.#position)
    if (distance <= DISORDER) return distance
    const comes = [...this.#pieces, ...this.#found.slice(0, 1).map((next) => ({ offset: next.offset, end: rangeEnd(next) }))]
    return comes.some((next) => offset > next.offset - DISORDER && offset < next.end) ? distance : undefined
  }

  hasRead(offset: number): boolean {
    return offset >= this.#start && offset < this.#position
  }

  /** Somebody reads this; the pieces that have some of it, in order. */
  pass(range: Range): readonly PieceAhead[] {
    this.#reads++
    this.#position = Math.max(this.#position, rangeEnd(range))
    this.#parts.room.touch(this)
    return this.#pieces.filter((piece) => piece.offset < rangeEnd(range) && piece.end > range.offset)
  }

  /** Begins to read what comes next; resolves when all is begun that is to be. Never rejects. */
  async extend(): Promise<void> {
    if (this.#extending) return
    this.#extending = true
    try {
      this.#dropPassed()
      while (!this.#ended && this.#ahead < Math.min(MOST_AHEAD, this.#reads - 1)) {
        const range = await this.#next()
        if (range === undefined || !this.#begin(range)) return
      }
    } catch {
      // Where data lies could not be told: who asks for it meets the error.
      this.end()
    } finally {
      this.#extending = false
    }
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    for (const piece of this.#pieces.splice(0)) piece.drop()
    this.#parts.room.leave(this)
    this.#parts.onEnd(this)
  }

  get #ahead(): number {
    return this.#pieces.filter((piece) => piece.end > this.#position).length
  }

  /** False: it is not to be, or there is no memory now; a read does without. */
  #begin(range: Range): boolean {
    const { room, source, watch, isReadElsewhere } = this.#parts
    const memory = this.#ended || isReadElsewhere(range.offset) ? undefined : room.take()
    if (memory === undefined) return false
    const piece = new PieceAhead(source, range, memory, room)
    watch(piece.settled)
    this.#pieces.push(piece)
    this.#found = after(this.#found, piece.end)
    return true
  }

  /** What is taken or failed, and what the reader has left behind him. */
  #dropPassed(): void {
    for (const [index, piece] of [...this.#pieces.entries()].reverse()) {
      if (!piece.isOver && piece.end > this.#position - 2 * DISORDER) continue
      this.#pieces.splice(index, 1)
      piece.drop()
    }
  }

  /** The next data that nobody asked for; undefined when none is near. */
  async #next(): Promise<Range | undefined> {
    for (;;) {
      this.#found = after(this.#found, this.#position)
      const [first] = this.#found
      if (first !== undefined) {
        const border = (Math.floor(first.offset / PIECE_BYTES) + 1) * PIECE_BYTES
        return { offset: first.offset, length: Math.min(border, rangeEnd(first)) - first.offset }
      }
      const offset = Math.max(this.#looked, this.#position)
      const { source, closing } = this.#parts
      if (offset >= source.size || offset > this.#position + HORIZON_BYTES) return undefined
      const length = Math.min(LOOK_BYTES, source.size - offset)
      const found: Range[] = []
      for await (const extent of source.extents({ offset, length }, { signal: closing })) if (extent.kind !== 'zero') found.push(extent)
      this.#found = found
      this.#looked = offset + length
    }
  }
}

/** What of ordered ranges lies at or after `offset`. */
function after(ranges: readonly Range[], offset: number): Range[] {
  return ranges.flatMap((range) => {
    const start = Math.max(range.offset, offset)
    return start < rangeEnd(range) ? [{ offset: start, length: rangeEnd(range) - start }] : []
  })
}
