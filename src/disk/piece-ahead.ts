import { type Abortable, type BlockSource, type Range, rangeEnd, throwIfAborted, unlessAborted } from '../core/index.ts'
import type { ReadAheadRoom } from './read-ahead-room.ts'

/** A piece of a disk that is read before it is asked for. Gives its memory back once it was dropped, its read has ended and nobody copies from it. */
export class PieceAhead {
  readonly offset: number
  readonly end: number
  /** The end of its read, however it ended. */
  readonly settled: Promise<void>
  readonly #memory: Buffer
  readonly #room: ReadAheadRoom
  readonly #stop = new AbortController()
  #state: 'reading' | 'ready' | 'failed' = 'reading'
  #dropped = false
  #given = false
  #users = 0
  /** Bytes nobody has asked for yet. */
  #left: number

  constructor(source: BlockSource, range: Range, memory: Buffer, room: ReadAheadRoom) {
    this.offset = range.offset
    this.end = rangeEnd(range)
    this.#left = range.length
    this.#memory = memory
    this.#room = room
    this.settled = this.#read(source, memory.subarray(0, range.length))
  }

  /** Whether everything in it was asked for, or it cannot be had. */
  get isOver(): boolean {
    return this.#left <= 0 || this.#state === 'failed'
  }

  /**
   * Copies what lies at `offset`, waiting for it. False: it could not be read ahead, and whoever wants it reads it itself, which also tells why. CANCELED by the
   * caller's signal alone.
   */
  async copy(offset: number, into: Uint8Array, options?: Abortable): Promise<boolean> {
    this.#left -= into.length
    this.#users++
    try {
      if (this.#state === 'reading') await unlessAborted(this.settled, options?.signal)
      throwIfAborted(options)
      if (this.#state !== 'ready') return false
      into.set(this.#memory.subarray(offset - this.offset, offset - this.offset + into.length))
      return true
    } catch (error) {
      throwIfAborted(options)
      throw error
    } finally {
      this.#users--
      this.#giveBack()
    }
  }

  /** Nobody will ask for it any more; its read is canceled unless somebody waits for it. */
  drop(): void {
    this.#dropped = true
    if (this.#users === 0 && this.#state === 'reading') this.#stop.abort()
    this.#giveBack()
  }

  async #read(source: BlockSource, into: Buffer): Promise<void> {
    try {
      await source.read(this.offset, into, { signal: this.#stop.signal })
      this.#state = 'ready'
    } catch {
      // Who asks for it reads it again and meets the error.
      this.#state = 'failed'
    }
    this.#giveBack()
  }

  #giveBack(): void {
    if (!this.#dropped || this.#given || this.#users > 0 || this.#state === 'reading') return
    this.#given = true
    this.#room.give(this.#memory)
  }
}
