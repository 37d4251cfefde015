import { type Abortable, type BlockSink, isZero, type Range, rangeEnd } from '../core/index.ts'
import type { DiskInfo, NfcSession } from './session.ts'

const ZEROS = 1024 * 1024

/**
 * A writable disk of a session as a sink; owns the session. Whole sectors only. `fresh` = the disk was made a moment ago and reads as zeros, so that zeros
 * are never sent and thin stays thin. There is no flush on the wire: closing the disk makes it durable.
 */
export function createNfcSink(session: NfcSession, info: DiskInfo, options: { readonly fresh: boolean }): BlockSink {
  return new SessionSink(session, info, options.fresh)
}

class SessionSink implements BlockSink {
  readonly size: number
  readonly #session: NfcSession
  readonly #fresh: boolean

  constructor(session: NfcSession, info: DiskInfo, fresh: boolean) {
    this.size = info.capacity
    this.#session = session
    this.#fresh = fresh
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    if (data.length === 0 || (this.#fresh && isZero(data))) return
    await this.#session.write(offset, data, options)
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    if (this.#fresh) return
    const zeros = Buffer.alloc(Math.min(ZEROS, range.length))
    for (let at = range.offset; at < rangeEnd(range); at += zeros.length) {
      await this.#session.write(at, zeros.subarray(0, Math.min(zeros.length, rangeEnd(range) - at)), options)
    }
  }

  async flush(options?: Abortable): Promise<void> {
    await this.#session.closeDisk(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]()
  }
}
