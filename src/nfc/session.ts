import {
  type Abortable,
  AgentError,
  type ByteChannel,
  type Clock,
  effect,
  KIB,
  MIB,
  SECTOR,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import { AioExchange, PATIENCE_MS } from './aio-exchange.ts'
import { AIO, encodeRecord } from './aio-record.ts'
import { COMPRESSION, type ChunkCompression, encodeChunk } from './chunk-codec.ts'
import { classicFrame, FRAME } from './classic-frame.ts'
import { nfcError } from './nfc-error.ts'
import { PendingRead } from './pending-read.ts'

const CLOSE_MS = 10_000
/** An open disk of which nothing is asked for so long is read a little: an idle connection is what firewalls forget. ms. */
const IDLE_MS = 300_000
/** Buffers the host is asked to keep for the session. */
const BUFFERS = 4
/** Most chunks one allocated-block query may ask for. */
export const MAX_QUERY_CHUNKS = 524_288
const LARGEST_VALUE = 64 * KIB

export type DiskInfo = {
  /** Opaque; all 64 bits count. */
  readonly handle: bigint
  /** Bytes. */
  readonly capacity: number
  readonly geometry: { readonly cylinders: number; readonly heads: number; readonly sectors: number }
}

export type SessionOptions = Abortable & {
  readonly host: string
  readonly clock: Clock
  /** Largest data tail in both directions, bytes; 1 MiB when absent, the host accepts up to 2 MiB. */
  readonly bufferBytes?: number | undefined
}

/**
 * One AIO session over a dialled channel, for one disk. Requests may be made concurrently; the host answers reads in any order. A violation of the
 * protocol, silence or a broken connection fails every request and ends the session: open a new one with a new ticket and go on at the first byte
 * not yet delivered. Disposal closes file and session in order, within 10 s.
 */
export class NfcSession implements AsyncDisposable {
  readonly host: string
  readonly bufferBytes: number
  readonly #aio: AioExchange
  readonly #clock: Clock
  #handle: bigint | undefined
  #capacity = 0
  #access: 'read' | 'write' = 'read'

  private constructor(channel: ByteChannel, { host, clock, bufferBytes = MIB }: SessionOptions) {
    this.host = host
    this.bufferBytes = bufferBytes
    this.#clock = clock
    this.#aio = new AioExchange(channel, { host, clock, bufferBytes, idle: { afterMs: IDLE_MS, onIdle: () => this.#keepAlive() } })
  }

  /** Sets the session up. HostRefusal (no memory for such buffers), UNAVAILABLE, INTEGRITY, CANCELED. */
  static async open(channel: ByteChannel, options: SessionOptions): Promise<NfcSession> {
    const session = new NfcSession(channel, options)
    const aio = session.#aio
    const what = 'the session'
    try {
      const size = Buffer.alloc(16)
      size.writeUInt32LE(session.bufferBytes, 4)
      size.writeUInt32LE(BUFFERS, 8)
      await aio.request({ type: AIO.openSession, what }, size, undefined, options)
      await aio.request({ type: AIO.socketOptions, what }, Buffer.alloc(12), undefined, options)
      const pool = Buffer.alloc(4)
      pool.writeUInt32LE(1, 0)
      await aio.request({ type: AIO.resourcePool, what }, pool, undefined, options)
      return session
    } catch (error) {
      aio.fail(toAgentError(error))
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
    const asked = { type: AIO.openFile, what: path, patienceMs: PATIENCE_MS.open }
    const { payload: reply } = await this.#aio.request(asked, payload, name, options)
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
    await this.#aio.request({ type: AIO.io, what: `the disk at ${offset}`, read }, payload, undefined, options)
  }

  /**
   * One write of whole sectors, in as many records as the buffer size needs, each coded as asked for where that makes it smaller; resolves with the host's
   * one answer. Needs a writable disk. CAPACITY (the datastore is full), UNAVAILABLE; both end the session.
   */
  async write(offset: number, data: Uint8Array, compression: ChunkCompression, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, data.length)
    const records: Buffer[] = []
    const opId = this.#aio.nextOpId()
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
      this.#aio.send(opId, { type: AIO.io, length: 44, what, patienceMs: PATIENCE_MS.write }, records, options),
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
    const asked = { type: AIO.allocatedBlocks, what: 'the map of allocated blocks', tailOf, patienceMs: PATIENCE_MS.open }
    const { tail } = await this.#aio.request(asked, payload, undefined, options)
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
    const { tail } = await this.#aio.request({ type: AIO.descriptorKey, what: `the descriptor key ${key}`, tailOf }, payload, name, options)
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
      await this.#aio.request({ type: AIO.closeFile, what: 'the disk', patienceMs: PATIENCE_MS.write }, payload, undefined, options)
    }
    await (this.#access === 'read' ? close() : effect({ kind: 'upload', what: 'NFC close', on: this.host }, close))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#aio.failure === undefined) {
      const stop = new AbortController()
      const late = this.#clock.sleep(CLOSE_MS, { signal: stop.signal }).catch(() => undefined) // closed in time
      await Promise.race([this.#close(), late])
      stop.abort()
    }
    this.#aio.fail(new AgentError('INTERNAL', `The NFC session with ${this.host} is closed.`))
  }

  /** A host that does not answer a farewell frees everything when the connection goes. */
  async #close(): Promise<void> {
    try {
      await this.closeDisk()
      await this.#aio.request({ type: AIO.closeSession, what: 'the session' }, Buffer.alloc(4))
      await this.#aio.farewell(classicFrame(FRAME.endOfSession))
    } catch (error) {
      this.#aio.fail(toAgentError(error))
    }
  }

  /** There is no record for it: the first sector is read. What goes wrong is learnt by the next request. */
  #keepAlive(): void {
    if (this.#handle === undefined) return
    this.read(0, Buffer.alloc(SECTOR), 'none').catch((error: unknown) => this.#aio.fail(toAgentError(error)))
  }

  #open(): bigint {
    if (this.#handle === undefined) throw this.#aio.failure ?? new AgentError('INTERNAL', 'No disk is open in this NFC session.')
    return this.#handle
  }

  #inside(offset: number, length: number): void {
    if (offset % SECTOR === 0 && length % SECTOR === 0 && length > 0 && offset >= 0 && offset + length <= this.#capacity) return
    throw new AgentError('INTERNAL', `${length} bytes at ${offset} are not whole sectors inside a disk of ${this.#capacity} bytes.`)
  }
}
