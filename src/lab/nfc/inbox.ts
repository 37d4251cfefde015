import type { Readable } from 'node:stream'

/** The client is gone, or said what cannot be answered: the connection is to be closed. */
export class ConnectionOver extends Error {}

const HIGH_WATER = 8 * 1024 * 1024

/** What came in, in the pieces it came in: each `data` event of a TLS socket is one TLS record. One reader at a time. */
export class Inbox {
  readonly #source: Readable
  readonly #pieces: Buffer[] = []
  readonly #onData = (piece: Buffer): void => {
    this.#pieces.push(piece)
    this.#size += piece.length
    this.#arrived++
    if (this.#size > HIGH_WATER) this.#source.pause()
    this.#wake?.()
  }
  readonly #onEnd = (): void => {
    this.#ended = true
    this.#wake?.()
  }
  #size = 0
  #arrived = 0
  #ended = false
  #wake: (() => void) | undefined
  /** The rest of a piece that may not be looked at before another one came. */
  #hidden: { readonly until: number } | undefined

  constructor(source: Readable) {
    this.#source = source
    source.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onEnd).on('error', this.#onEnd)
    source.resume()
  }

  /** Exactly so many bytes. ConnectionOver when the other side ends before. */
  async read(bytes: number): Promise<Buffer> {
    while (this.#size < bytes || (this.#hidden !== undefined && this.#arrived < this.#hidden.until)) {
      if (this.#ended) throw new ConnectionOver('the client closed the connection')
      await this.#more()
    }
    this.#hidden = undefined
    return this.#take(bytes)
  }

  /** One line without its end; `most` bytes at the longest. */
  async readLine(most: number): Promise<string> {
    const line: number[] = []
    for (;;) {
      const [byte = 0] = await this.read(1)
      if (byte === 10) return Buffer.from(line).toString('latin1').replace(/\r$/, '')
      line.push(byte)
      if (line.length > most) throw new ConnectionOver('the client sent a line without end')
    }
  }

  /** What is left of the piece read last is not looked at until the next one comes. */
  hideRest(): void {
    if (this.#size > 0 && this.#partial) this.#hidden = { until: this.#arrived - (this.#pieces.length - 1) + 1 }
  }

  /** True when nothing is waiting to be read. */
  get isEmpty(): boolean {
    return this.#size === 0
  }

  /** Resolves when something is there to read, or the other side is gone. */
  async arrival(): Promise<void> {
    while (this.#size === 0 && !this.#ended) await this.#more()
  }

  /** Leaves the stream to somebody else. */
  release(): void {
    this.#source.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd).off('error', this.#onEnd)
  }

  /** The first piece was begun. */
  #partial = false

  #take(bytes: number): Buffer {
    const parts: Buffer[] = []
    let wanted = bytes
    while (wanted > 0) {
      const piece = this.#pieces[0]
      if (piece === undefined) throw new Error('the inbox counted wrong')
      if (piece.length <= wanted) {
        parts.push(piece)
        this.#pieces.shift()
        this.#partial = false
        wanted -= piece.length
      } else {
        parts.push(piece.subarray(0, wanted))
        this.#pieces[0] = piece.subarray(wanted)
        this.#partial = true
        wanted = 0
      }
    }
    this.#size -= bytes
    if (this.#size <= HIGH_WATER && this.#source.isPaused() && !this.#ended) this.#source.resume()
    const [only] = parts
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts)
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined
        resolve()
      }
    })
  }
}
