/** A set of whole numbers below `size`: a bit each. */
export class BitSet {
  readonly size: number
  readonly #words: Uint32Array

  constructor(size: number) {
    this.size = size
    this.#words = new Uint32Array(Math.ceil(size / 32))
  }

  get memoryBytes(): number {
    return this.#words.byteLength
  }

  has(number: number): boolean {
    return ((this.#words[number >>> 5] ?? 0) & (1 << (number & 31))) !== 0
  }

  /** True when it was not in the set. */
  add(number: number): boolean {
    if (this.has(number)) return false
    this.#words[number >>> 5]! |= 1 << (number & 31)
    return true
  }

  delete(number: number): void {
    this.#words[number >>> 5]! &= ~(1 << (number & 31))
  }
}
