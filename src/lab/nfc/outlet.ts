import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { ConnectionOver } from './inbox.ts'

/** What goes out, with back-pressure, and cut off after a number of bytes where a fault rule says so. */
export class Outlet {
  readonly #target: Writable
  readonly #socket: Socket
  #left = Number.POSITIVE_INFINITY

  constructor(target: Writable, socket: Socket) {
    this.#target = target
    this.#socket = socket
  }

  /** The connection breaks after so many bytes more; the smallest such wish counts. */
  cutAfter(bytes: number): void {
    this.#left = Math.min(this.#left, bytes)
  }

  /** Returns when there is room for more. ConnectionOver when the client is gone or the connection is to be cut. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.#socket.destroyed || this.#target.destroyed) throw new ConnectionOver('the client closed the connection')
    if (bytes.length > this.#left) {
      await this.flush(bytes.subarray(0, this.#left))
      throw new ConnectionOver('a fault rule of the lab cut the connection')
    }
    this.#left -= bytes.length
    if (this.#target.write(bytes)) return
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        this.#target.off('drain', settle)
        this.#socket.off('close', settle)
        if (this.#socket.destroyed) reject(new ConnectionOver('the client closed the connection'))
        else resolve()
      }
      this.#target.on('drain', settle)
      this.#socket.on('close', settle)
    })
  }

  /** Sends and waits until the bytes are with the kernel. */
  async flush(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        this.#socket.off('close', settle)
        resolve()
      }
      this.#socket.on('close', settle)
      if (this.#socket.destroyed) settle()
      else this.#target.write(bytes, settle)
    })
  }
}
