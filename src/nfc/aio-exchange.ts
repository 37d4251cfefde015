import { type Abortable, AgentError, type ByteChannel, type Clock, SilenceWatch, throwIfAborted, toAgentError } from '../core/index.ts'
import { AIO, decodeHeader, encodeRecord, HEADER_BYTES } from './aio-record.ts'
import { COMPRESSION } from './chunk-codec.ts'
import { ERROR_TEXT_BYTES, nfcError } from './nfc-error.ts'
import { decodeReadReply, type PendingRead } from './pending-read.ts'

/** Patience, ms: silence while something is waited for. */
export const PATIENCE_MS = Object.freeze({ read: 60_000, write: 600_000, open: 180_000 })

export type Reply = { readonly payload: Buffer; readonly tail: Buffer }

/** What is asked of the host, and how its answer looks. */
export type AioRequest = {
  readonly type: number
  /** For messages: what the request is about. */
  readonly what: string
  /** Bytes of the answer's payload. */
  readonly length: number
  readonly patienceMs?: number | undefined
  /** Collects the chunks of a read; undefined for requests with one reply. */
  readonly read?: PendingRead | undefined
  /** Bytes behind the reply's payload; none when absent. Throws INTEGRITY for a length that cannot be. */
  readonly tailOf?: ((payload: Buffer) => number) | undefined
}

type Pending = AioRequest & {
  /** Set by an error record; the ordinary reply follows. */
  error: AgentError | undefined
  readonly resolve: (reply: Reply) => void
  readonly reject: (error: unknown) => void
}

export type ExchangeOptions = {
  readonly host: string
  readonly clock: Clock
  /** Largest data tail in both directions, bytes. */
  readonly bufferBytes: number
  /** Called when nothing was asked for so long, ms. */
  readonly idle?: { readonly afterMs: number; readonly onIdle: () => void } | undefined
}

/**
 * Requests and answers of one AIO session. Requests may be made concurrently; the host answers in any order. A violation of the protocol, silence or a
 * broken connection fails every request and ends the exchange for good.
 */
export class AioExchange {
  readonly host: string
  readonly bufferBytes: number
  readonly #channel: ByteChannel
  readonly #idle: ExchangeOptions['idle']
  readonly #pending = new Map<number, Pending>()
  readonly #silence: SilenceWatch
  #opId = 0
  #failure: AgentError | undefined
  #scratch = Buffer.alloc(0)

  constructor(channel: ByteChannel, options: ExchangeOptions) {
    this.host = options.host
    this.bufferBytes = options.bufferBytes
    this.#channel = channel
    this.#idle = options.idle
    this.#silence = new SilenceWatch(
      options.clock,
      (silent) => this.#look(silent),
      (error) => this.fail(toAgentError(error)),
    )
    this.#receive().catch((error: unknown) => this.fail(toAgentError(error)))
  }

  /** Why it has ended; undefined while it has not. */
  get failure(): AgentError | undefined {
    return this.#failure
  }

  /** The client's counter: answers repeat it. */
  nextOpId(): number {
    const opId = this.#opId
    this.#opId = (opId + 1) >>> 0
    return opId
  }

  /** One record and its answer. */
  request(request: Omit<AioRequest, 'length'>, payload: Buffer, tail?: Uint8Array, options?: Abortable): Promise<Reply> {
    const opId = this.nextOpId()
    return this.send(opId, { ...request, length: payload.length }, [encodeRecord(request.type, opId, payload, tail)], options)
  }

  /** The records of one request, all with its opId, and their one answer. */
  send(opId: number, request: AioRequest, records: readonly Buffer[], options?: Abortable): Promise<Reply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const { promise, resolve, reject } = Promise.withResolvers<Reply>()
    const { signal } = options ?? {}
    const onAbort = (): void => {
      request.read?.abandon()
      try {
        throwIfAborted(options)
      } catch (error) {
        reject(error)
      }
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    if (this.#pending.size === 0) this.#silence.heard()
    this.#pending.set(opId, { ...request, error: undefined, resolve, reject })
    for (const record of records) this.#channel.write(record).catch((error: unknown) => this.fail(toAgentError(error)))
    return promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  /** Bytes that are no record and have no answer. */
  async farewell(bytes: Buffer): Promise<void> {
    await this.#channel.write(bytes)
  }

  /** Ends the exchange and the connection; the first reason stays. */
  fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#silence[Symbol.dispose]()
    this.#channel.fail(error)
    for (const pending of this.#pending.values()) pending.reject(pending.error ?? error)
    this.#pending.clear()
  }

  async #receive(): Promise<void> {
    while (this.#failure === undefined) {
      const { type, length, opId } = decodeHeader(await this.#channel.take(HEADER_BYTES), this.host)
      this.#silence.heard()
      const pending = this.#pending.get(opId)
      if (pending === undefined) throw this.#outOfStep(`an answer to the request ${opId}, which was not made`)
      if (type === AIO.error && length === 16 && pending.error === undefined) await this.#takeError(opId, pending)
      else if (type !== pending.type || length !== pending.length)
        throw this.#outOfStep(`a record of type ${type} and ${length} bytes to one of type ${pending.type}`)
      else if (pending.read === undefined) await this.#takeReply(opId, pending, length)
      else await this.#takeChunk(opId, pending, pending.read)
    }
  }

  async #takeError(opId: number, pending: Pending): Promise<void> {
    const payload = await this.#channel.take(16)
    const length = payload.readUInt32LE(12)
    if (length > ERROR_TEXT_BYTES) throw this.#outOfStep(`an error text of ${length} bytes`)
    const text = (await this.#channel.take(length)).toString('latin1')
    pending.error = nfcError(this.host, pending.what, payload.readBigUInt64LE(0), text)
    if (pending.type !== AIO.io && pending.type !== AIO.openSession) return
    // Whether the ordinary reply follows a refused session, read or write is not known, so the stream may be out of step from here on.
    this.#pending.delete(opId)
    pending.reject(pending.error)
    throw new AgentError('UNAVAILABLE', `The NFC session with ${this.host} was ended after a refused transfer.`, { subject: this.host })
  }

  async #takeReply(opId: number, pending: Pending, length: number): Promise<void> {
    const payload = await this.#channel.take(length)
    const tail = pending.error === undefined ? (pending.tailOf?.(payload) ?? 0) : 0
    const reply = { payload, tail: tail === 0 ? Buffer.alloc(0) : await this.#channel.take(tail) }
    this.#pending.delete(opId)
    if (pending.error === undefined) pending.resolve(reply)
    else pending.reject(pending.error)
  }

  async #takeChunk(opId: number, pending: Pending, read: PendingRead): Promise<void> {
    const reply = decodeReadReply(await this.#channel.take(44))
    if (reply.status !== 0n) {
      this.#pending.delete(opId)
      pending.reject(nfcError(this.host, pending.what, reply.status, ''))
      throw new AgentError('UNAVAILABLE', `The NFC session with ${this.host} was ended after a failed read.`, { subject: this.host })
    }
    read.expect(reply, this.bufferBytes)
    if (reply.tail > 2 * this.bufferBytes) throw this.#outOfStep(`a chunk of ${reply.tail} bytes`)
    if (reply.compression === COMPRESSION.none) await this.#channel.pour(reply.tail, read.pieces(reply))
    else read.decode(reply, await this.#coded(reply.tail))
    if (!read.complete) return
    this.#pending.delete(opId)
    pending.resolve({ payload: Buffer.alloc(0), tail: Buffer.alloc(0) })
  }

  /** The coded form of one chunk, in memory that the next one uses again. */
  async #coded(length: number): Promise<Buffer> {
    if (this.#scratch.length < length) this.#scratch = Buffer.allocUnsafeSlow(Math.max(length, this.bufferBytes))
    let filled = 0
    await this.#channel.pour(length, (piece) => {
      this.#scratch.set(piece, filled)
      filled += piece.length
    })
    return this.#scratch.subarray(0, length)
  }

  #outOfStep(what: string): AgentError {
    return new AgentError('INTEGRITY', `${this.host} sent ${what} in an NFC session.`, { subject: this.host })
  }

  #look(silent: number): void {
    if (this.#pending.size === 0) {
      if (this.#idle !== undefined && silent >= this.#idle.afterMs) this.#idle.onIdle()
      return
    }
    const patience = Math.max(...[...this.#pending.values()].map((each) => each.patienceMs ?? PATIENCE_MS.read))
    if (silent < patience) return
    this.fail(
      new AgentError('UNAVAILABLE', `${this.host} was silent for ${Math.round(silent / 1000)} s in an NFC session.`, {
        subject: this.host,
      }),
    )
  }
}
