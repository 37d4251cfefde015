import type { Duplex } from 'node:stream'
import {
  type Abortable,
  AgentError,
  type ByteChannel,
  effect,
  type Range,
  SilenceWatch,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import { type DialOptions, dialNbd, type NbdAddress, takeExport } from './dial.ts'
import type { ExportInfo } from './handshake.ts'
import { nbdError, outOfStep } from './nbd-error.ts'
import { PendingRequest, type StatusExtent } from './pending-request.ts'
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_IS_ERROR,
  CHUNK_MAGIC,
  COMMAND,
  LARGEST_PAYLOAD,
  LONGEST_STRING,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_MAGIC,
} from './protocol.ts'

/** Patience, ms: silence while something is asked for. */
const SILENCE_MS = 180_000
const LARGEST_STATUS = 1024 * 1024
const LARGEST_ERROR = 6 + LONGEST_STRING + 8

export type ConnectionOptions = DialOptions & { readonly silenceMs?: number | undefined }

/**
 * One connection with one export open. Requests may be made concurrently; the caller keeps their number, size and place in bounds. A server that is out
 * of step, silence or a broken connection fails every request and ends the connection: open a new one. Disposal says farewell and closes.
 */
export class NbdConnection implements AsyncDisposable {
  readonly info: ExportInfo
  readonly peer: string
  readonly #channel: ByteChannel
  readonly #silenceMs: number
  readonly #pending = new Map<bigint, PendingRequest>()
  readonly #silence: SilenceWatch
  #cookie = 0n
  #failure: AgentError | undefined

  private constructor(channel: ByteChannel, info: ExportInfo, options: ConnectionOptions) {
    this.info = info
    this.peer = channel.peer
    this.#channel = channel
    this.#silenceMs = options.silenceMs ?? SILENCE_MS
    this.#silence = new SilenceWatch(
      options.clock,
      (silent) => this.#lookForSilence(silent),
      (error) => this.#fail(toAgentError(error)),
    )
    this.#receive().catch((error: unknown) => this.#fail(toAgentError(error)))
  }

  /** Errors: as `dialNbd`. */
  static async open(address: NbdAddress, exportName: string, options: ConnectionOptions): Promise<NbdConnection> {
    const { channel, info } = await dialNbd(address, exportName, options)
    return new NbdConnection(channel, info, options)
  }

  /** The same over a stream that leads to a server already, as the pipes of one that was started; `peer` names it in messages. Owns the stream. */
  static async over(stream: Duplex, peer: string, exportName: string, options: ConnectionOptions): Promise<NbdConnection> {
    throwIfAborted(options)
    const { channel, info } = await takeExport(stream, peer, exportName, options)
    return new NbdConnection(channel, info, options)
  }

  /** One READ of at most the largest payload, in whole smallest blocks. */
  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const what = `read ${into.length} bytes at ${offset}`
    await this.#request({ command: COMMAND.read, offset, length: into.length, what, into }, options)
  }

  /** One WRITE of at most the largest payload. */
  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    const what = `write ${data.length} bytes at ${offset}`
    await this.#change('NBD write', what, () => this.#request({ command: COMMAND.write, offset, length: data.length, what, data }, options))
  }

  /** Makes `range` (less than 4 GiB) read as zeros. Only where `canWriteZeroes`. */
  async writeZeroes(range: Range, options?: Abortable): Promise<void> {
    const what = `write zeros over ${range.length} bytes at ${range.offset}`
    await this.#change('NBD write zeroes', what, () => this.#request({ command: COMMAND.writeZeroes, ...range, what }, options))
  }

  /** Gives up the contents of `range` (less than 4 GiB). Only where `canTrim`. */
  async trim(range: Range, options?: Abortable): Promise<void> {
    const what = `trim ${range.length} bytes at ${range.offset}`
    await this.#change('NBD trim', what, () => this.#request({ command: COMMAND.trim, ...range, what }, options))
  }

  /** Everything written and answered before is durable when it resolves. Only where `canFlush`. */
  async flush(options?: Abortable): Promise<void> {
    await this.#change('NBD flush', 'flush', () => this.#request({ command: COMMAND.flush, offset: 0, length: 0, what: 'flush' }, options))
  }

  /** Extents of `base:allocation` from the start of `range` (less than 4 GiB) on: at least one, maybe ending early, maybe beyond it. */
  async blockStatus(range: Range, options?: Abortable): Promise<readonly StatusExtent[]> {
    const what = `tell what is allocated at ${range.offset}`
    const pending = await this.#request({ command: COMMAND.blockStatus, ...range, what }, options)
    if (pending.extents === undefined) throw this.#ended(outOfStep(this.peer, 'no extents'))
    return pending.extents
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#failure === undefined) {
      try {
        await this.#channel.write(encodeRequest(COMMAND.disconnect, 0, 0n, 0, 0))
      } catch (error) {
        // Gone already, which is what was wanted.
        this.#fail(toAgentError(error))
      }
    }
    this.#fail(new AgentError('INTERNAL', `The NBD connection to ${this.peer} is closed.`))
  }

  #change<T>(what: string, on: string, work: () => Promise<T>): Promise<T> {
    return effect({ kind: 'upload', what, on: `${this.peer}: ${on}` }, work)
  }

  async #request(
    request: {
      readonly command: number
      readonly offset: number
      readonly length: number
      readonly what: string
      readonly into?: Uint8Array
      readonly data?: Uint8Array
    },
    options?: Abortable,
  ): Promise<PendingRequest> {
    throwIfAborted(options)
    if (this.#failure !== undefined) throw this.#failure
    const pending = new PendingRequest(request)
    const signal = options?.signal
    const onAbort = (): void => pending.abandon(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    if (this.#pending.size === 0) this.#silence.heard()
    const cookie = this.#cookie++
    this.#pending.set(cookie, pending)
    const head = encodeRequest(request.command, 0, cookie, request.offset, request.length)
    this.#channel.write(head, ...(request.data === undefined ? [] : [request.data])).catch((error) => this.#fail(toAgentError(error)))
    try {
      await pending.settled
      return pending
    } catch (error) {
      throwIfAborted(options)
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async #receive(): Promise<void> {
    while (this.#failure === undefined) {
      const magic = (await this.#channel.take(4)).readUInt32BE(0)
      this.#silence.heard()
      if (magic === SIMPLE_MAGIC) await this.#takeSimple()
      else if (magic === CHUNK_MAGIC && this.info.structured) await this.#takeChunk()
      else throw outOfStep(this.peer, 'what is no reply')
    }
  }

  async #takeSimple(): Promise<void> {
    const rest = await this.#channel.take(12)
    const [errno, cookie] = [rest.readUInt32BE(0), rest.readBigUInt64BE(4)]
    const pending = this.#answered(cookie)
    if (errno !== 0) pending.error = nbdError(this.peer, pending.what, errno, '')
    else if (pending.command === COMMAND.blockStatus) throw outOfStep(this.peer, 'a status without extents')
    else if (pending.command === COMMAND.read) {
      if (this.info.structured) throw outOfStep(this.peer, 'an unstructured reply to a read')
      await this.#pour(pending, 0, pending.length)
    }
    this.#finish(cookie, pending)
  }

  async #takeChunk(): Promise<void> {
    const head = await this.#channel.take(16)
    const [flags, type] = [head.readUInt16BE(0), head.readUInt16BE(2)]
    const [cookie, length] = [head.readBigUInt64BE(4), head.readUInt32BE(12)]
    const pending = this.#answered(cookie)
    if ((type & CHUNK_IS_ERROR) !== 0) await this.#takeError(pending, type, length)
    else if (type === CHUNK.offsetData) await this.#takeData(pending, length)
    else if (type === CHUNK.offsetHole) await this.#takeHole(pending, length)
    else if (type === CHUNK.blockStatus) await this.#takeStatus(pending, length)
    else if (type !== CHUNK.none || length !== 0 || (flags & CHUNK_DONE) === 0) throw outOfStep(this.peer, `a chunk of type ${type}`)
    if ((flags & CHUNK_DONE) === 0) return
    if (pending.error === undefined && !pending.arrived.complete) throw outOfStep(this.peer, `less than was asked for (${pending.what})`)
    this.#finish(cookie, pending)
  }

  async #takeError(pending: PendingRequest, type: number, length: number): Promise<void> {
    if (length < 6 || length > LARGEST_ERROR) throw outOfStep(this.peer, `an error of ${length} bytes`)
    const payload = await this.#channel.take(length)
    const textLength = payload.readUInt16BE(4)
    const known = type === CHUNK.error || type === CHUNK.errorOffset
    if (known && 6 + textLength + (type === CHUNK.errorOffset ? 8 : 0) !== length) throw outOfStep(this.peer, 'an error of a wrong length')
    const text = known ? payload.toString('utf8', 6, 6 + textLength) : ''
    pending.error ??= nbdError(this.peer, pending.what, payload.readUInt32BE(0), text)
  }

  async #takeData(pending: PendingRequest, length: number): Promise<void> {
    if (pending.command !== COMMAND.read || length <= 8 || length > LARGEST_PAYLOAD + 8)
      throw outOfStep(this.peer, `${length} bytes of data`)
    const at = (await this.#channel.take(8)).readBigUInt64BE(0) - BigInt(pending.offset)
    await this.#pour(pending, this.#inside(pending, at, length - 8), length - 8)
  }

  async #takeHole(pending: PendingRequest, length: number): Promise<void> {
    if (pending.command !== COMMAND.read || length !== 12) throw outOfStep(this.peer, `a hole of ${length} bytes`)
    const payload = await this.#channel.take(12)
    const size = payload.readUInt32BE(8)
    const at = this.#inside(pending, payload.readBigUInt64BE(0) - BigInt(pending.offset), size)
    if (!pending.arrived.add(at, size)) throw outOfStep(this.peer, 'bytes twice')
    pending.putZeros(at, size)
  }

  async #takeStatus(pending: PendingRequest, length: number): Promise<void> {
    const count = (length - 4) / 8
    const fits = pending.command === COMMAND.blockStatus && pending.extents === undefined && Number.isInteger(count) && count >= 1
    if (!fits || length > LARGEST_STATUS) throw outOfStep(this.peer, `a status of ${length} bytes`)
    const payload = await this.#channel.take(length)
    if (payload.readUInt32BE(0) !== this.info.allocation) throw outOfStep(this.peer, 'a status of another context')
    const extents = Array.from({ length: count }, (_, index) => ({
      length: payload.readUInt32BE(4 + index * 8),
      flags: payload.readUInt32BE(8 + index * 8),
    }))
    if (extents.some((extent) => extent.length === 0)) throw outOfStep(this.peer, 'an empty extent')
    pending.extents = extents
  }

  async #pour(pending: PendingRequest, at: number, length: number): Promise<void> {
    if (!pending.arrived.add(at, length)) throw outOfStep(this.peer, 'bytes twice')
    await this.#channel.pour(length, (piece, from) => {
      this.#silence.heard()
      pending.put(piece, at + from)
    })
  }

  #inside(pending: PendingRequest, at: bigint, length: number): number {
    if (at >= 0n && at + BigInt(length) <= BigInt(pending.length)) return Number(at)
    throw outOfStep(this.peer, `bytes that were not asked for (${pending.what})`)
  }

  #answered(cookie: bigint): PendingRequest {
    const pending = this.#pending.get(cookie)
    if (pending === undefined) throw outOfStep(this.peer, 'an answer to a request that was not made')
    return pending
  }

  #finish(cookie: bigint, pending: PendingRequest): void {
    this.#pending.delete(cookie)
    pending.end()
  }

  #lookForSilence(silent: number): void {
    if (this.#pending.size === 0 || silent < this.#silenceMs) return
    const seconds = Math.round(silent / 1000)
    this.#fail(new AgentError('UNAVAILABLE', `${this.peer} was silent for ${seconds} s in an NBD connection.`, { subject: this.peer }))
  }

  #ended(error: AgentError): AgentError {
    this.#fail(error)
    return error
  }

  /** Ends the connection; the first reason stays. */
  #fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#silence[Symbol.dispose]()
    this.#channel.fail(error)
    for (const pending of this.#pending.values()) pending.abandon(pending.error ?? error)
    this.#pending.clear()
  }
}

/** A request's 28 bytes. */
export function encodeRequest(command: number, flags: number, cookie: bigint, offset: number, length: number): Buffer {
  const head = Buffer.alloc(REQUEST_BYTES)
  head.writeUInt32BE(REQUEST_MAGIC, 0)
  head.writeUInt16BE(flags, 4)
  head.writeUInt16BE(command, 6)
  head.writeBigUInt64BE(cookie, 8)
  head.writeBigUInt64BE(BigInt(offset), 16)
  head.writeUInt32BE(length, 24)
  return head
}
