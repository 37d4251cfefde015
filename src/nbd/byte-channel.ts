import type { Duplex } from 'node:stream'
import { AgentError } from '../core/index.ts'

type Waiter = { readonly enough: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }

/**
 * One connection's bytes in exact pieces. One reader at a time; writes in the order of their calls. Ends with one error for everybody.
 * `highWater`: bytes waiting to be taken before the peer is asked to stop sending.
 */
export class ByteChannel {
  /** Who is at the other end, for messages. */
  readonly peer: string
  /** Aborts with the error that ended the channel. */
  readonly ended: AbortSignal
  readonly #stream: Duplex
  readonly #highWater: number
  readonly #end = new AbortController()
  #chunks: Buffer[] = []
  #length = 0
  #waiter: Waiter | undefined
  #failure: AgentError | undefined
  #paused = false

  constructor(stream: Duplex, peer: string, highWater = 4 * 1024 * 1024) {
    this.peer = peer
    this.ended = this.#end.signal
    this.#stream = stream
    this.#highWater = highWater
    stream.on('data', (chunk: Buffer) => this.#arrived(chunk))
    stream.on('end', () => this.#closed())
    stream.on('close', () => this.#closed())
    stream.on('error', (error) => this.fail(this.#broken(error)))
  }

  /** Exactly `length` bytes; the caller keeps `length` in bounds. UNAVAILABLE when the connection ends before. */
  async take(length: number): Promise<Buffer> {
    if (this.#length < length) await this.#until(length)
    const first = this.#chunks[0]
    if (first !== undefined && first.length >= length) return this.#shift(length)
    const whole = Buffer.allocUnsafe(length)
    for (let filled = 0; filled < length; ) filled += this.#shift(length - filled).copy(whole, filled)
    return whole
  }

  /** The next `length` bytes in pieces as they arrive, each valid only during the call; never more of them in memory than one piece. */
  async pour(length: number, onPiece: (piece: Buffer, at: number) => void): Promise<void> {
    for (let at = 0; at < length; ) {
      if (this.#length === 0) await this.#until(1)
      const piece = this.#shift(length - at)
      onPiece(piece, at)
      at += piece.length
    }
  }

  /** Sends the parts in one go, nothing of another write between them. Resolves when the system has taken them. */
  write(...parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      const done = (error?: Error | null): void => (error == null ? resolve() : reject(this.#failure ?? this.#broken(error)))
      this.#stream.cork()
      parts.forEach((part, index) => this.#stream.write(part, index === parts.length - 1 ? done : undefined))
      this.#stream.uncork()
    })
  }

  /** Ends every wait with `error` and the connection at once. The first reason stays. */
  fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#chunks = []
    this.#length = 0
    this.#stream.destroy()
    this.#waiter?.reject(error)
    this.#waiter = undefined
    this.#end.abort(error)
  }

  #arrived(chunk: Buffer): void {
    if (this.#failure !== undefined) return
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const waiter = this.#waiter
    if (waiter !== undefined && this.#length >= waiter.enough) {
      this.#waiter = undefined
      waiter.resolve()
    } else if (waiter === undefined && this.#length > this.#highWater) {
      this.#paused = true
      this.#stream.pause()
    }
  }

  #closed(): void {
    this.fail(new AgentError('UNAVAILABLE', `${this.peer} closed the NBD connection.`, { subject: this.peer }))
  }

  #broken(error: Error): AgentError {
    return new AgentError('UNAVAILABLE', `The NBD connection to ${this.peer} broke: ${error.message}.`, {
      subject: this.peer,
      cause: error,
    })
  }

  #until(enough: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#waiter !== undefined) return Promise.reject(new AgentError('INTERNAL', 'Two readers share one NBD connection.'))
    return new Promise((resolve, reject) => {
      this.#waiter = { enough, resolve, reject }
      this.#resume()
    })
  }

  /** The first waiting bytes, at most `limit` of them and of one chunk. */
  #shift(limit: number): Buffer {
    const first = this.#chunks[0] ?? Buffer.alloc(0)
    const piece = first.length <= limit ? first : first.subarray(0, limit)
    if (piece.length === first.length) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(limit)
    this.#length -= piece.length
    if (this.#length < this.#highWater / 2) this.#resume()
    return piece
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#stream.resume()
  }
}
