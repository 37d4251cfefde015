import { MIB, sharedMemory } from '../core/index.ts'

/** What is read ahead in one go. Bytes; beginnings are multiples of it, so it is whole blocks of every repository. */
export const PIECE_BYTES = MIB
/** A place that was not read at for so many reads of the others is left behind. */
const LEFT_BEHIND = 64

/** Whoever holds memory of the room. */
export interface ReadsAhead {
  /** Stops, and gives its memory back, at once or when its reads under way have ended. */
  end(): void
}

/**
 * The memory that all disks of one mount share for reading ahead, and who uses it: places that are read at, the one that was read at longest ago first. A place
 * that was left behind gives its memory back; where none is left nobody waits, since a read does without as well.
 */
export class ReadAheadRoom {
  readonly #most: number
  readonly #free: Buffer[] = []
  readonly #used = new Map<ReadsAhead, number>()
  #made = 0
  #turn = 0

  /** `bytes`: the most that is held, a multiple of 1 MiB. It is made as it is needed and kept for the next. */
  constructor(bytes: number) {
    this.#most = Math.floor(bytes / PIECE_BYTES)
  }

  get mostBytes(): number {
    return this.#most * PIECE_BYTES
  }

  /** Bytes that somebody has now. */
  get takenBytes(): number {
    return (this.#made - this.#free.length) * PIECE_BYTES
  }

  /** Memory of one piece, which a repository's threads open blocks into; undefined when there is none. */
  take(): Buffer | undefined {
    const piece = this.#free.pop()
    if (piece !== undefined || this.#made === this.#most) return piece
    this.#made++
    return sharedMemory(PIECE_BYTES)
  }

  give(piece: Buffer): void {
    this.#free.push(piece)
  }

  /** It was read at; ends the places that were left behind. */
  touch(place: ReadsAhead): void {
    this.#used.delete(place)
    this.#used.set(place, ++this.#turn)
    for (const [other, turn] of this.#used) {
      if (this.#turn - turn < LEFT_BEHIND) return
      other.end()
    }
  }

  leave(place: ReadsAhead): void {
    this.#used.delete(place)
  }
}
