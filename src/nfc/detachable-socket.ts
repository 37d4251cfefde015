import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

/**
 * A socket as a TLS session sees it, from which that session can be taken off again: NFC drops its first TLS session without a word and goes on
 * over the same socket, while a TLSSocket made directly over a socket keeps its handle for good.
 */
export class DetachableSocket extends Duplex {
  readonly #socket: Socket
  #attached = true

  constructor(socket: Socket) {
    super()
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onClose)
    socket.on('error', this.#onError)
  }

  /** From here on the socket is the caller's again; what the TLS session still wants to send goes nowhere. */
  detach(): void {
    this.#attached = false
    this.#socket.off('data', this.#onData)
    this.#socket.off('end', this.#onEnd)
    this.#socket.off('close', this.#onClose)
    this.#socket.off('error', this.#onError)
    this.#socket.pause()
  }

  override _read(): void {
    if (this.#attached) this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#attached) this.#socket.write(chunk, done)
    else done()
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#attached) this.#socket.end(done)
    else done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#attached) this.#socket.destroy()
    done(error)
  }

  readonly #onData = (chunk: Buffer): void => {
    if (!this.push(chunk)) this.#socket.pause()
  }

  readonly #onEnd = (): void => {
    this.push(null)
  }

  readonly #onClose = (): void => {
    this.destroy()
  }

  readonly #onError = (error: Error): void => {
    this.destroy(error)
  }
}
