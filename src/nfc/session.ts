import { type Abortable, AgentError, type Clock, effect, SECTOR, throwIfAborted, toAgentError } from '../core/index.ts'
import { AIO, decodeHeader, encodeRecord, HEADER_BYTES } from './aio-record.ts'
import type { ByteChannel } from './byte-channel.ts'
import { COMPRESSION, type ChunkCompression, encodeChunk } from './chunk-codec.ts'
import { classicFrame, FRAME } from './classic-frame.ts'
import { ERROR_TEXT_BYTES, nfcError } from './nfc-error.ts'
import { decodeReadReply, PendingRead } from './pending-read.ts'

/** Patience, ms: silence while something is waited for. */
const READ_MS = 60_000
const WRITE_MS = 600_000
const OPEN_MS = 180_000
const CLOSE_MS = 10_000
const LOOK_EVERY = 1000
/** Most chunks one allocated-block query may ask for. */
export const MAX_QUERY_CHUNKS = 524_288
const LARGEST_VALUE = 64 * 1024

export type DiskInfo = {
  /** Opaque; all 64 bits count. */
  readonly handle: bigint
  /** Bytes. */
  readonly capacity: number
  readonly geometry: { readonly cylinders: number; readonly heads: number; readonly sectors: number }
}

export type SessionOptions = {
  readonly host: string
  readonly clock: Clock
  /** Largest data tail in both directions, bytes; 1 MiB when absent, the host accepts up to 2 MiB. */
  readonly bufferBytes?: number | undefined
}

type Reply = { readonly payload: Buffer; readonly tail: Buffer }

/** A request waiting for its one reply, or a read collecting chunks. */
type Pending = {
  readonly type: number
  readonly length: number
  readonly what: string
  readonly patienceMs: number
  readonly read: PendingRead | undefined
  /** Bytes behind the reply's payload. */
  readonly tailOf: (payload: Buffer) => number
  /** Set by an error record; the ordinary reply follows. */
  error: AgentError | undefined
  readonly resolve: (reply: Reply) => void
  readonly reject: (error: unknown) => void
}

const noTail = (): number => 0

/**
 * One AIO session over a dialled channel, for one disk. Requests may be made concurrently; the host answers reads in any order. A violation of the
 * protocol, silence or a broken connection fails every request and ends the session: open a new one with a new ticket and go on at the first byte
 * not yet delivered. Disposal closes file and session in order, within 10 s.
 */
export class NfcSession implements AsyncDisposable {
  readonly host: string
  readonly bufferBytes: number
  readonly #channel: ByteChannel
  readonly #clock: Clock
  readonly #pending = new Map<number, Pending>()
  readonly #watch: Disposable
  #opId = 0
  #heardAt: number
  #failure: AgentError | undefined
  #handle: bigint | undefined
  #capacity = 0
  #access: 'read' | 'write' = 'read'
  #scratch = Buffer.alloc(0)

  private constructor(channel: ByteChannel, options: SessionOptions) {
    this.host = options.host
    this.bufferBytes = options.bufferBytes ?? 1024 * 1024
    this.#channel = channel
    this.#clock = options.clock
    this.#heardAt = options.clock.monotonicMs()
    this.#watch = options.clock.every(
      LOOK_EVERY,
      () => this.#lookForSilence(),
      (error) => this.#fail(toAgentError(error)),
    )
    this.#receive().catch((error: unknown) => this.#fail(toAgentError(error)))
  }

  /** Sets the session up. UNAVAILABLE (the host has no memory for it), INTEGRITY. */
  static async open(channel: ByteChannel, options: SessionOptions): Promise<NfcSession> {
    const session = new NfcSession(channel, options)
    try {
      const size = Buffer.alloc(16)
      size.writeUInt32LE(session.bufferBytes, 4)
      size.writeUInt32LE(4, 8)
      await session.#request(AIO.openSession, 'the session', size)
      await session.#request(AIO.socketOptions, 'the session', Buffer.alloc(12))
      const pool = Buffer.alloc(4)
      pool.writeUInt32LE(1, 0)
      await session.#request(AIO.resourcePool, 'the session', pool)
      return session
    } catch (error) {
      session.#fail(toAgentError(error))
      throw error
    }
  }

  /**
   * Opens the disk by its descriptor's datastore path; the host shows the whole chain below it as one disk. Once per session.
   * CONFLICT (live or locked), AUTH (not covered by the ticket), UNAVAILABLE.
   */
  async openDisk(path: string, access: 'read' | 'write', options?: Abortable): Promise<DiskInfo> {
    const name = Buffer.from(path.toWellFormed(), 'utf8')
    const payload = Buffer.alloc(60)
    payload.writeUInt32LE(name.length, 0)
    payload.writeUInt32LE(2, 16)
    payload.writeUInt32LE(access === 'read' ? 0x1e : 0x1a, 20)
    const { payload: reply } = await this.#request(AIO.openFile, path, payload, { tail: name, patienceMs: OPEN_MS, ...options })
    const status = reply.readBigUInt64LE(0)
    if (status !== 0n) throw nfcError(this.host, path, status, '')
    const sectorSize = reply.readUInt32LE(36)
    const capacity = reply.readBigUInt64LE(28)
    if (
      (sectorSize !== 0 && sectorSize !== SECTOR) ||
      capacity === 0n ||
      capacity > BigInt(Number.MAX_SAFE_INTEGER) ||
      capacity % BigInt(SECTOR) !== 0n
    ) {
      throw new AgentError('INTEGRITY', `${this.host} opened ${path} with ${capacity} bytes in sectors of ${sectorSize}.`, {
        subject: path,
      })
    }
    this.#handle = reply.readBigUInt64LE(8)
    this.#capacity = Number(capacity)
    this.#access = access
    const geometry = { cylinders: reply.readUInt32LE(40), heads: reply.readUInt32LE(44), sectors: reply.readUInt32LE(48) }
    return { handle: this.#handle, capacity: this.#capacity, geometry }
  }

  /** One read of whole sectors inside the disk, in one request; the caller keeps the number of requests in bounds. */
  async read(offset: number, into: Uint8Array, compression: ChunkCompression, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, into.length)
    const payload = Buffer.alloc(44)
    payload.writeBigUInt64LE(this.#open(), 0)
    payload.writeUInt32LE(1, 8)
    payload.writeUInt32LE(COMPRESSION[compression], 12)
    payload.writeBigUInt64LE(BigInt(offset), 16)
    payload.writeBigUInt64LE(BigInt(into.length), 24)
    payload.writeUInt32LE(into.length, 32)
    payload.writeUInt32LE(into.length, 36)
    const read = new PendingRead(offset, into)
    await this.#request(AIO.io, `the disk at ${offset}`, payload, { read, patienceMs: READ_MS, ...options })
  }

  /**
   * One write of whole sectors, in as many records as the buffer size needs, each coded as asked for where that makes it smaller; resolves with the host's
   * one answer. Needs a writable disk. CAPACITY (the datastore is full), UNAVAILABLE; both end the session.
   */
  async write(offset: number, data: Uint8Array, compression: ChunkCompression, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, data.length)
    const records: Buffer[] = []
    const opId = this.#nextOpId()
    for (let position = 0; position < data.length; position += this.bufferBytes) {
      const part = data.subarray(position, position + this.bufferBytes)
      const { code, tail } = encodeChunk(part, compression)
      const payload = Buffer.alloc(44)
      payload.writeBigUInt64LE(this.#open(), 0)
      payload.writeUInt32LE(code, 12)
      payload.writeBigUInt64LE(BigInt(offset), 16)
      payload.writeUInt32LE(data.length, 24)
      payload.writeUInt32LE(position, 28)
      payload.writeUInt32LE(part.length, 32)
      payload.writeUInt32LE(tail.length, 36)
      records.push(encodeRecord(AIO.io, opId, payload, tail))
    }
    const what = `the disk at ${offset}`
    const { payload } = await effect({ kind: 'upload', what: 'NFC write', on: `${this.host} at ${offset}` }, () =>
      this.#await(opId, { type: AIO.io, length: 44, what, patienceMs: WRITE_MS }, records, options),
    )
    const status = payload.readBigUInt64LE(0)
    if (status !== 0n) throw nfcError(this.host, what, status, '')
  }

  /**
   * Which of `count` chunks of `chunkBytes` from `start` hold data anywhere in the chain: one bit each, least significant first. Whole chunks
   * inside the disk only, `count` up to MAX_QUERY_CHUNKS.
   */
  async allocated(start: number, chunkBytes: number, count: number, options?: Abortable): Promise<Buffer> {
    this.#inside(start, chunkBytes * count)
    const payload = Buffer.alloc(48)
    payload.writeBigUInt64LE(this.#open(), 0)
    payload.writeBigUInt64LE(BigInt(chunkBytes), 16)
    payload.writeBigUInt64LE(BigInt(start), 24)
    payload.writeBigUInt64LE(BigInt(count), 32)
    const bitmap = Math.ceil(Math.ceil(count / 8) / 4) * 4
    const tailOf = (reply: Buffer): number => {
      const answered = reply.readBigUInt64LE(32)
      // A refused query is answered with zeros and no bitmap.
      if (answered === 0n) return 0
      if (answered !== BigInt(count)) throw new AgentError('INTEGRITY', `${this.host} answered for ${answered} chunks instead of ${count}.`)
      return bitmap
    }
    const { tail } = await this.#request(AIO.allocatedBlocks, 'the map of allocated blocks', payload, {
      tailOf,
      patienceMs: OPEN_MS,
      ...options,
    })
    if (tail.length !== bitmap) throw new AgentError('INTEGRITY', `${this.host} gave no map of allocated blocks.`, { subject: this.host })
    return tail
  }

  /** One value of the disk's descriptor, by its key without `ddb.`; undefined when there is none. */
  async descriptorValue(key: string, options?: Abortable): Promise<string | undefined> {
    const name = Buffer.from(key, 'latin1')
    const payload = Buffer.alloc(16)
    payload.writeBigUInt64LE(this.#open(), 0)
    payload.writeUInt32LE(name.length, 8)
    const tailOf = (reply: Buffer): number => {
      const length = reply.readUInt32LE(12)
      if (length > LARGEST_VALUE) throw new AgentError('INTEGRITY', `${this.host} gave a descriptor value of ${length} bytes.`)
      return length
    }
    const { tail } = await this.#request(AIO.descriptorKey, `the descriptor key ${key}`, payload, { tail: name, tailOf, ...options })
    return tail.length === 0 ? undefined : tail.toString('utf8')
  }

  /** Closes the disk: what was written is durable when it resolves. */
  async closeDisk(options?: Abortable): Promise<void> {
    const handle = this.#handle
    if (handle === undefined) return
    this.#handle = undefined
    const payload = Buffer.alloc(8)
    payload.writeBigUInt64LE(handle, 0)
    const close = async (): Promise<void> => {
      await this.#request(AIO.closeFile, 'the disk', payload, { patienceMs: WRITE_MS, ...options })
    }
    await (this.#access === 'read' ? close() : effect({ kind: 'upload', what: 'NFC close', on: this.host }, close))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#failure === undefined) {
      const stop = new AbortController()
      const late = this.#clock.sleep(CLOSE_MS, { signal: stop.signal }).catch(() => undefined) // closed in time
      await Promise.race([this.#close(), late])
      stop.abort()
    }
    this.#fail(new AgentError('INTERNAL', `The NFC session with ${this.host} is closed.`))
  }

  /** A host that does not answer a farewell frees everything when the connection goes. */
  async #close(): Promise<void> {
    try {
      await this.closeDisk()
      await this.#request(AIO.closeSession, 'the session', Buffer.alloc(4))
      await this.#channel.write(classicFrame(FRAME.endOfSession))
    } catch (error) {
      this.#fail(toAgentError(error))
    }
  }

  #open(): bigint {
    if (this.#handle === undefined) throw this.#failure ?? new AgentError('INTERNAL', 'No disk is open in this NFC session.')
    return this.#handle
  }

  #inside(offset: number, length: number): void {
    if (offset % SECTOR === 0 && length % SECTOR === 0 && length > 0 && offset >= 0 && offset + length <= this.#capacity) return
    throw new AgentError('INTERNAL', `${length} bytes at ${offset} are not whole sectors inside a disk of ${this.#capacity} bytes.`)
  }

  #nextOpId(): number {
    const opId = this.#opId
    this.#opId = (opId + 1) >>> 0
    return opId
  }

  #request(
    type: number,
    what: string,
    payload: Buffer,
    extra: Abortable & {
      readonly tail?: Uint8Array | undefined
      readonly tailOf?: ((payload: Buffer) => number) | undefined
      readonly read?: PendingRead | undefined
      readonly patienceMs?: number | undefined
    } = {},
  ): Promise<Reply> {
    const opId = this.#nextOpId()
    const { tail, read, tailOf, patienceMs = READ_MS } = extra
    return this.#await(
      opId,
      { type, length: payload.length, what, patienceMs, read, tailOf },
      [encodeRecord(type, opId, payload, tail)],
      extra,
    )
  }

  #await(
    opId: number,
    request: {
      readonly type: number
      readonly length: number
      readonly what: string
      readonly patienceMs: number
      readonly read?: PendingRead | undefined
      readonly tailOf?: ((payload: Buffer) => number) | undefined
    },
    records: readonly Buffer[],
    options?: Abortable,
  ): Promise<Reply> {
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
    if (this.#pending.size === 0) this.#heardAt = this.#clock.monotonicMs()
    this.#pending.set(opId, { ...request, read: request.read, tailOf: request.tailOf ?? noTail, error: undefined, resolve, reject })
    for (const record of records) this.#channel.write(record).catch((error: unknown) => this.#fail(toAgentError(error)))
    return promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  async #receive(): Promise<void> {
    while (this.#failure === undefined) {
      const { type, length, opId } = decodeHeader(await this.#channel.take(HEADER_BYTES), this.host)
      this.#heardAt = this.#clock.monotonicMs()
      const pending = this.#pending.get(opId)
      if (pending === undefined) throw this.#outOfStep(`an answer to the request ${opId}, which was not made`)
      if (type === AIO.error && length === 16) await this.#takeError(opId, pending)
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
    if (pending.type !== AIO.io) return
    // Whether the ordinary reply follows a refused read or write is not known, so the stream may be out of step from here on.
    this.#pending.delete(opId)
    pending.reject(pending.error)
    throw new AgentError('UNAVAILABLE', `The NFC session with ${this.host} was ended after a refused transfer.`, { subject: this.host })
  }

  async #takeReply(opId: number, pending: Pending, length: number): Promise<void> {
    const payload = await this.#channel.take(length)
    const tail = pending.error === undefined ? pending.tailOf(payload) : 0
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
    read.check(reply, this.bufferBytes)
    if (reply.tail > 2 * this.bufferBytes) throw this.#outOfStep(`a chunk of ${reply.tail} bytes`)
    if (reply.compression === COMPRESSION.none) await this.#channel.pour(reply.tail, read.pieces(reply))
    else read.decode(reply, await this.#coded(reply.tail))
    read.taken(reply)
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

  #lookForSilence(): void {
    if (this.#pending.size === 0) return
    const patience = Math.max(...[...this.#pending.values()].map((each) => each.patienceMs))
    const silent = this.#clock.monotonicMs() - this.#heardAt
    if (silent < patience) return
    this.#fail(
      new AgentError('UNAVAILABLE', `${this.host} was silent for ${Math.round(silent / 1000)} s in an NFC session.`, {
        subject: this.host,
      }),
    )
  }

  /** Ends the session; the first reason stays. */
  #fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#watch[Symbol.dispose]()
    this.#channel.fail(error)
    for (const pending of this.#pending.values()) pending.reject(pending.error ?? error)
    this.#pending.clear()
  }
}
