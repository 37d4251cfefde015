import type { Abortable, BlockSource, Extent, Range } from '../core/index.ts'
import { ForwardPlace } from './forward-place.ts'
import { PIECE_BYTES, type ReadAheadRoom } from './read-ahead-room.ts'

/**
 * The same source; where it is read forwards, what comes next is read before it is asked for, several pieces of 1 MiB at once, in memory of `room`. Any number of
 * readers, each from a place of his own; one who jumps leaves his place, and what was on its way there is canceled when `room` needs it. What could not be read
 * ahead is read again by who asks for it, so an error is of exactly the bytes that were asked for. Owns `source`; disposal ends what is read ahead and waits until
 * nothing of it is under way. Wrapped once, by whoever shows a disk.
 */
export function readingAhead(source: BlockSource, room: ReadAheadRoom): BlockSource {
  return new ReadingAhead(source, room)
}

class ReadingAhead implements BlockSource {
  readonly size: number
  readonly #source: BlockSource
  readonly #room: ReadAheadRoom
  readonly #places: ForwardPlace[] = []
  readonly #underWay = new Set<Promise<void>>()
  readonly #closing = new AbortController()
  /** Bytes that readers have asked for and not got yet. */
  #asked = 0

  constructor(source: BlockSource, room: ReadAheadRoom) {
    this.size = source.size
    this.#source = source
    this.#room = room
  }

  read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const end = offset + into.length
    const inside = offset >= 0 && end <= this.size && into.length > 0
    if (!inside || this.#closing.signal.aborted || options?.signal?.aborted === true) return this.#source.read(offset, into, options)
    const place = this.#placeOf(offset)
    const pieces = place.pass({ offset, length: into.length })
    const parts: Promise<void>[] = []
    const part = (from: number, to: number): Uint8Array => into.subarray(from - offset, to - offset)
    let at = offset
    for (const piece of pieces) {
      if (piece.offset > at) parts.push(this.#source.read(at, part(at, piece.offset), options))
      const from = Math.max(at, piece.offset)
      at = Math.min(end, piece.end)
      const target = part(from, at)
      parts.push(piece.copy(from, target, options).then((had) => (had ? undefined : this.#source.read(from, target, options))))
    }
    if (at < end) parts.push(this.#source.read(at, part(at, end), options))
    // Who has enough under way needs nobody to read ahead of him, and is spared a copy.
    if (this.#asked < PIECE_BYTES) this.#watch(place.extend())
    const whole = together(parts)
    this.#asked += into.length
    const ended = (): void => void (this.#asked -= into.length)
    this.#watch(whole.then(ended, ended)) // an error is the caller's
    return whole
  }

  extents(range: Range, options?: Abortable): AsyncIterable<Extent> {
    return this.#source.extents(range, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _source = this.#source
    this.#closing.abort()
    for (let place = this.#places[0]; place !== undefined; place = this.#places[0]) place.end()
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
  }

  #placeOf(offset: number): ForwardPlace {
    let nearest: { readonly place: ForwardPlace; readonly distance: number } | undefined
    for (const place of this.#places) {
      const distance = place.distance(offset)
      if (distance !== undefined && distance < (nearest?.distance ?? Number.POSITIVE_INFINITY)) nearest = { place, distance }
    }
    if (nearest !== undefined) return nearest.place
    const place: ForwardPlace = new ForwardPlace(offset, {
      source: this.#source,
      room: this.#room,
      closing: this.#closing.signal,
      watch: (work) => this.#watch(work),
      isReadElsewhere: (at) => this.#places.some((other) => other !== place && other.hasRead(at)),
      onEnd: (ended) => this.#places.splice(this.#places.indexOf(ended), 1),
    })
    this.#places.push(place)
    return place
  }

  /** Until it has ended, which it does without an error. */
  #watch(work: Promise<void>): void {
    const watched: Promise<void> = work.finally(() => this.#underWay.delete(watched))
    this.#underWay.add(watched)
  }
}

/** All of them, also when one failed: the caller's memory is his again afterwards. */
async function together(parts: readonly Promise<void>[]): Promise<void> {
  if (parts.length === 1) return parts[0]
  const results = await Promise.allSettled(parts)
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
