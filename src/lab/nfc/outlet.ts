import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { ConnectionOver } from './inbox.ts'

/** Bytes that may wait behind those being sent: the next answer is made meanwhile. */
const AHEAD = 2 * 1024 * 1024

type Parcel = { readonly bytes: Uint8Array; readonly sent: (() => void) | undefined }

/**
 * What goes out, with back-pressure, and cut off after a number of bytes where a fault rule says so. One write is under way at a time: several would
 * be copied into one for TLS.
 */
export class Outlet {
  readonly #target: Writable
  readonly #socket: Socket
  readonly #queue: Parcel[] = []
  #queued = 0
  #writing = false
  #left = Number.POSITIVE_INFINITY
  #wake: (() => void) | undefined

  constructor(target: Writable, socket: Socket) {
    this.#target = target
    this.#socket = socket
    socket.once('close', () => this.#wake?.())
  }

  /** The connection breaks after so many bytes more; the smallest such wish counts. */
  cutAfter(bytes: number): void {
    this.#left = Math.min(this.#left, bytes)
  }

  /**
   * Returns when there is room for more; `sent` is called when the bytes are with the kernel and their memory is free again. ConnectionOver when the
   * client is gone or the connection is to be cut.
   */
  async send(bytes: Uint8Array, sent?: () => void): Promise<void> {
    this.#alive()
    if (bytes.length > this.#left) {
      await this.flush(bytes.subarray(0, this.#left))
      throw new ConnectionOver('a fault rule of the lab cut the connection')
    }
    this.#left -= bytes.length
    this.#push({ bytes, sent })
    await this.#until(AHEAD)
  }

  /** Sends and waits until the bytes are with the kernel, or the client is gone. */
  async flush(bytes: Uint8Array): Promise<void> {
    if (this.#gone) return
    this.#push({ bytes, sent: undefined })
    while (!this.#gone && (this.#writing || this.#queue.length > 0)) await this.#change()
  }

  /** Waits until everything is with the kernel. ConnectionOver. */
  async drained(): Promise<void> {
    await this.#until(0)
    while (this.#writing) {
      await this.#change()
      this.#alive()
    }
  }

  /** Ends the stream in order once everything is with the kernel: with close_notify where it is TLS. Never throws. */
  async farewell(): Promise<void> {
    while (!this.#gone && (this.#writing || this.#queue.length > 0)) await this.#change()
    if (this.#gone) return
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve())
      this.#target.end(() => resolve())
    })
  }

  get #gone(): boolean {
    return this.#socket.destroyed || this.#target.destroyed
  }

  #alive(): void {
    if (this.#gone) throw new ConnectionOver('the client closed the connection')
  }

  async #until(most: number): Promise<void> {
    while (this.#queued > most) {
      await this.#change()
      this.#alive()
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#wake
      this.#wake = () => {
        before?.()
        resolve()
      }
    })
  }

  #push(parcel: Parcel): void {
    this.#queue.push(parcel)
    this.#queued += parcel.bytes.length
    if (!this.#writing) this.#next()
  }

  #next(): void {
    if (this.#gone) this.#queued = this.#queue.length = 0
    const parcel = this.#queue.shift()
    this.#writing = parcel !== undefined
    if (parcel !== undefined) {
      this.#queued -= parcel.bytes.length
      this.#target.write(parcel.bytes, () => {
        parcel.sent?.()
        this.#next()
      })
    }
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
