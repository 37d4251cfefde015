import type { Duplex } from 'node:stream'
import { AgentError } from './errors.ts'

export type ChannelOptions = {
  /** Who is at the other end, and what is spoken (`NFC`, `NBD`), for messages. */
  readonly peer: string
  readonly protocol: string
  /** Bytes waiting to be taken before the peer is asked to stop sending; 8 MiB when absent. */
  readonly highWater?: number | undefined
}

const HIGH_WATER = 8 * 1024 * 1024

/** Bytes on their way straight to where they belong. */
type Pour = {
  at: number
  left: number
  readonly take: (piece: Buffer, at: number) => void
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

type Waiter = { readonly ready: () => boolean; readonly resolve: () => void; readonly reject: (error: unknown) => void }

/**
 * One connection's bytes in exact pieces, for protocols that are read by lengths. One reader at a time; writes in the order of their calls. Ends with
 * one error for everybody; what came before the end can still be taken.
 */
export class ByteChannel {
  readonly stream: Duplex
  readonly peer: string
  /** Aborts with the error that ended the channel. */
  readonly ended: AbortSignal
  readonly #protocol: string
  readonly #highWater: number
  readonly #end = new AbortController()
  #chunks: Buffer[] = []
  #length = 0
  #waiter: Waiter | undefined
  #pour: Pour | undefined
  #failure: AgentError | undefined
  #paused = false

  constructor(stream: Duplex, { peer, protocol, highWater = HIGH_WATER }: ChannelOptions) {
    this.stream = stream
    this.peer = peer
    this.ended = this.#end.signal
    this.#protocol = protocol
    this.#highWater = highWater
    stream.on('data', this.#onData)
    stream.on('end', this.#onEnd)
    stream.on('close', this.#onEnd)
    stream.on('error', this.#onError)
  }

  /** Exactly `length` bytes. UNAVAILABLE when the connection ends before. */
  async take(length: number): Promise<Buffer> {
    await this.#until(() => this.#length >= length)
    return this.#cut(length)
  }

  /**
   * Hands exactly `length` bytes to `take`, in the pieces they come in and with the place of each; a piece is the taker's only during the call. What
   * `take` throws ends the wait.
   */
  async pour(length: number, take: (piece: Buffer, at: number) => void): Promise<void> {
    let at = 0
    while (at < length && this.#length > 0) {
      const piece = this.#cut(Math.min(length - at, this.#chunks[0]?.length ?? 0))
      take(piece, at)
      at += piece.length
    }
    if (at === length) return
    this.#free()
    await new Promise<void>((resolve, reject) => {
      this.#pour = { at, left: length - at, take, resolve, reject }
      this.#resume()
    })
  }

  /** A line without its CR LF. INTEGRITY when none ends within `limit` bytes. */
  async takeLine(limit: number): Promise<string> {
    let end = -1
    await this.#until(() => (end = this.#indexOf(0x0a, limit)) >= 0 || this.#length > limit)
    if (end < 0) throw new AgentError('INTEGRITY', `${this.peer} sent a line of more than ${limit} bytes.`, { subject: this.peer })
    return this.#cut(end + 1)
      .toString('latin1')
      .replace(/\r?\n$/, '')
  }

  /** Sends the parts in one go, nothing of another write between them. Resolves when the system has taken them. */
  write(...parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      const done = (error?: Error | null): void => (error == null ? resolve() : reject(this.#failure ?? this.#broken(error)))
      if (parts.length > 1) this.stream.cork()
      parts.forEach((part, index) => this.stream.write(part, index === parts.length - 1 ? done : undefined))
      if (parts.length > 1) this.stream.uncork()
    })
  }

  /** Ends every wait with `error` and the connection at once. The first reason stays. */
  fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.stream.destroy()
    this.#waiter?.reject(error)
    this.#waiter = undefined
    this.#pour?.reject(error)
    this.#pour = undefined
    this.#end.abort(error)
  }

  /** Leaves the stream to somebody else: no listener stays but one that keeps a late error from being unhandled. INTEGRITY when bytes wait. */
  release(): void {
    if (this.#length > 0)
      throw new AgentError('INTEGRITY', `${this.peer} sent ${this.#length} bytes where it must be silent.`, { subject: this.peer })
    this.stream.off('data', this.#onData)
    this.stream.off('end', this.#onEnd)
    this.stream.off('close', this.#onEnd)
  }

  readonly #onData = (chunk: Buffer): void => {
    const rest = this.#pour === undefined ? chunk : this.#pourOut(this.#pour, chunk)
    if (rest.length === 0) return
    this.#chunks.push(rest)
    this.#length += rest.length
    if (this.#waiter?.ready() === true) {
      const { resolve } = this.#waiter
      this.#waiter = undefined
      resolve()
    } else if (!this.#isAwaited && this.#length > this.#highWater) {
      this.#paused = true
      this.stream.pause()
    }
  }

  get #isAwaited(): boolean {
    return this.#waiter !== undefined || this.#pour !== undefined
  }

  /** What is left of the chunk when the pour has had its share. */
  #pourOut(pour: Pour, chunk: Buffer): Buffer {
    const share = chunk.length <= pour.left ? chunk : chunk.subarray(0, pour.left)
    try {
      pour.take(share, pour.at)
    } catch (error) {
      this.#pour = undefined
      pour.reject(error)
      return chunk
    }
    pour.at += share.length
    pour.left -= share.length
    if (pour.left === 0) {
      this.#pour = undefined
      pour.resolve()
    }
    return chunk.subarray(share.length)
  }

  readonly #onEnd = (): void => {
    this.fail(new AgentError('UNAVAILABLE', `${this.peer} closed the ${this.#protocol} connection.`, { subject: this.peer }))
  }

  readonly #onError = (error: Error): void => {
    this.fail(this.#broken(error))
  }

  #broken(error: Error): AgentError {
    return new AgentError('UNAVAILABLE', `The ${this.#protocol} connection to ${this.peer} broke: ${error.message}.`, {
      subject: this.peer,
      cause: error,
    })
  }

  async #until(ready: () => boolean): Promise<void> {
    if (ready()) return
    this.#free()
    return new Promise((resolve, reject) => {
      this.#waiter = { ready, resolve, reject }
      this.#resume()
    })
  }

  /** Throws unless a reader may wait. */
  #free(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#isAwaited) throw new AgentError('INTERNAL', `Two readers share one ${this.#protocol} connection.`)
  }

  #indexOf(byte: number, limit: number): number {
    let before = 0
    for (const chunk of this.#chunks) {
      const at = chunk.indexOf(byte)
      if (at >= 0) return before + at < limit ? before + at : -1
      before += chunk.length
    }
    return -1
  }

  #cut(length: number): Buffer {
    const first = this.#chunks[0]
    let cut: Buffer
    if (first !== undefined && first.length >= length) {
      cut = first.subarray(0, length)
      if (first.length === length) this.#chunks.shift()
      else this.#chunks[0] = first.subarray(length)
    } else {
      cut = Buffer.allocUnsafe(length)
      let filled = 0
      let used = 0
      for (const chunk of this.#chunks) {
        const part = Math.min(chunk.length, length - filled)
        chunk.copy(cut, filled, 0, part)
        filled += part
        if (part < chunk.length) {
          this.#chunks[used] = chunk.subarray(part)
          break
        }
        used++
        if (filled === length) break
      }
      this.#chunks.splice(0, used)
    }
    this.#length -= length
    if (this.#length < this.#highWater / 2) this.#resume()
    return cut
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.stream.resume()
  }
}
