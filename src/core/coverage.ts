/** Most separate pieces that are kept apart: a server sends them in order, or nearly. */
const MOST_PIECES = 4096

/** Which bytes of one request have arrived. Pieces that touch become one. */
export class Coverage {
  readonly #length: number
  /** Ordered, apart. */
  readonly #pieces: { start: number; end: number }[] = []

  constructor(length: number) {
    this.#length = length
  }

  get complete(): boolean {
    const [only] = this.#pieces
    return this.#length === 0 || (only !== undefined && only.start === 0 && only.end === this.#length)
  }

  /** False, and nothing noted, when the piece is empty, lies outside, covers what has arrived already, or is one too many. */
  add(start: number, length: number): boolean {
    const end = start + length
    if (length <= 0 || start < 0 || end > this.#length) return false
    const index = this.#firstFrom(start)
    const [before, after] = [this.#pieces[index - 1], this.#pieces[index]]
    if ((before !== undefined && before.end > start) || (after !== undefined && after.start < end)) return false
    const [joinsBefore, joinsAfter] = [before?.end === start, after?.start === end]
    if (before !== undefined && joinsBefore) {
      before.end = after !== undefined && joinsAfter ? after.end : end
      if (joinsAfter) this.#pieces.splice(index, 1)
    } else if (after !== undefined && joinsAfter) {
      after.start = start
    } else {
      if (this.#pieces.length >= MOST_PIECES) return false
      this.#pieces.splice(index, 0, { start, end })
    }
    return true
  }

  /** Index of the first piece that begins at `start` or behind it. */
  #firstFrom(start: number): number {
    let [low, high] = [0, this.#pieces.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#pieces[middle]?.start ?? 0) < start) low = middle + 1
      else high = middle
    }
    return low
  }
}
