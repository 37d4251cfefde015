import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

/**
 * A socket as a stream that a TLS session can be taken off again: after `detach` nothing the session still says reaches the socket (no
 * close_notify), and the socket is paused for whoever reads it next.
 */
export class DetachableSocket extends Duplex {
  readonly #socket: Socket
  readonly #onData = (chunk: Buffer): void => {
    if (!this.push(chunk)) this.#socket.pause()
  }
  readonly #onEnd = (): void => {
    this.push(null)
  }
  readonly #onClose = (): void => {
    this.destroy()
  }
  #attached = true

  constructor(socket: Socket) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    socket.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onClose)
  }

  /** Lets go of the socket. What was written before must have been flushed. */
  detach(): void {
    this.#attached = false
    this.#socket.pause()
    this.#socket.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose)
  }

  override _read(): void {
    if (this.#attached) this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#attached && !this.#socket.destroyed) this.#socket.write(chunk, () => done())
    else done()
  }

  override _final(done: () => void): void {
    done()
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    if (this.#attached) this.#socket.destroy()
    done(null)
  }
}
