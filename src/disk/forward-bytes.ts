import { type Abortable, isZero, throwIfAborted } from '../core/index.ts'
import { cutShort } from './corrupt.ts'

/** Exact reads from bytes that arrive in chunks and can be read only once. */
export class ForwardBytes {
  readonly name: string
  readonly #chunks: AsyncIterator<Uint8Array>
  readonly #options: Abortable | undefined
  #chunk: Uint8Array = new Uint8Array()
  #position = 0

  constructor(chunks: AsyncIterable<Uint8Array>, name: string, options?: Abortable) {
    this.name = name
    this.#chunks = chunks[Symbol.asyncIterator]()
    this.#options = options
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position
  }

  /** The next `length` bytes, copied. INTEGRITY when the stream ends before. */
  async take(length: number): Promise<Uint8Array> {
    const into = Buffer.allocUnsafe(length)
    for (let done = 0; done < length; ) {
      if (!(await this.#fill())) throw cutShort(this.name, `ended early, after ${this.#position} bytes`)
      const part = this.#chunk.subarray(0, length - done)
      into.set(part, done)
      this.#chunk = this.#chunk.subarray(part.length)
      this.#position += part.length
      done += part.length
    }
    return into
  }

  /** Like `take`, but undefined when nothing is left at all. */
  async takeOrEnd(length: number): Promise<Uint8Array | undefined> {
    return (await this.#fill()) ? this.take(length) : undefined
  }

  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) left -= (await this.take(Math.min(left, 65_536))).length
  }

  /** Skips padding, which may be missing at the very end. */
  async skipUpTo(length: number): Promise<void> {
    for (let left = length; left > 0 && (await this.#fill()); ) {
      const part = Math.min(left, this.#chunk.length)
      this.#chunk = this.#chunk.subarray(part)
      this.#position += part
      left -= part
    }
  }

  /** Reads to the end; true when nothing but zeros is left, and at most `most` of them. */
  async restIsZero(most: number): Promise<boolean> {
    for (let seen = 0; await this.#fill(); ) {
      seen += this.#chunk.length
      if (seen > most || !isZero(this.#chunk)) return false
      this.#position += this.#chunk.length
      this.#chunk = new Uint8Array()
    }
    return true
  }

  /** Stops the source when reading ends before it does. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #fill(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      throwIfAborted(this.#options)
      const next = await this.#chunks.next()
      if (next.done === true) return false
      this.#chunk = next.value
    }
    return true
  }
}
