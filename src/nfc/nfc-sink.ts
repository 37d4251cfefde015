import PQueue from 'p-queue'
import { type Abortable, AgentError, type BlockSink, isZero, MIB, type Range, rangeEnd, SECTOR, throwIfAborted } from '../core/index.ts'
import type { ChunkCompression } from './chunk-codec.ts'
import type { DiskInfo, NfcSession } from './session.ts'

/** Largest single write request, and how many of one session are in flight. Its own multiples are what is remembered as written, one bit each. */
const PIECE = MIB
const IN_FLIGHT = 8

export type NfcSinkOptions = {
  /** Every byte of the disk reads as zero now. Zeros are then sent only into pieces of 1 MiB that this sink has written to, so that thin stays thin. */
  readonly fresh: boolean
  /** What is tried on each chunk that is sent; none when absent. */
  readonly compression?: ChunkCompression | undefined
}

/**
 * A disk that a session has open for writing, as a sink; owns the session. Writes of any size are cut into requests of 1 MiB, 8 of them in flight; bytes
 * beside whole sectors are read and written back. There is no flush on the wire: closing the disk makes it durable, and ends the writing.
 */
export function createNfcSink(session: NfcSession, info: DiskInfo, options: NfcSinkOptions): BlockSink {
  return new SessionSink(session, info, options)
}

class SessionSink implements BlockSink {
  readonly size: number
  readonly #session: NfcSession
  readonly #compression: ChunkCompression
  /** Pieces written to: 8 MB for a disk of 62 TB. Undefined = any may hold data. */
  readonly #written: Uint8Array | undefined
  readonly #window = new PQueue({ concurrency: IN_FLIGHT })
  /** Two writes may share a sector, which is then read and written back by one after the other. */
  readonly #edges = new PQueue({ concurrency: 1 })

  constructor(session: NfcSession, info: DiskInfo, { fresh, compression }: NfcSinkOptions) {
    this.size = info.capacity
    this.#session = session
    this.#compression = compression ?? 'none'
    this.#written = fresh ? new Uint8Array(Math.ceil(this.size / PIECE / 8)) : undefined
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, data.length)
    if (data.length === 0) return
    if (offset % SECTOR === 0 && data.length % SECTOR === 0) return this.#send(offset, data, options)
    await this.#edges.add(async () => this.#send(...(await this.#widened(offset, data, options)), options))
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(range.offset, range.length)
    for (let at = range.offset; at < rangeEnd(range); ) {
      const end = Math.min(rangeEnd(range), (Math.floor(at / PIECE) + 1) * PIECE)
      if (this.#holdsData(at)) await this.write(at, Buffer.alloc(end - at), options)
      at = end
    }
  }

  async flush(options?: Abortable): Promise<void> {
    await this.#session.closeDisk(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]()
  }

  /** Whole sectors, in pieces that end where those do of which it is remembered whether they were written to. */
  async #send(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    const pieces: Promise<void>[] = []
    for (let at = offset; at < offset + data.length; ) {
      const end = Math.min(offset + data.length, (Math.floor(at / PIECE) + 1) * PIECE)
      const piece = data.subarray(at - offset, end - offset)
      if (this.#holdsData(at) || !isZero(piece)) {
        this.#mark(at)
        const start = at
        pieces.push(this.#window.add(() => this.#session.write(start, piece, this.#compression, options)))
      }
      at = end
    }
    // All have ended before the caller gets its buffer back; of several errors the one that says most.
    const errors = (await Promise.allSettled(pieces))
      .filter((result) => result.status === 'rejected')
      .map(({ reason }) => reason as unknown)
    if (errors.length > 0) throw errors.find((error) => !isLost(error)) ?? errors[0]
  }

  /** The same write with the sectors it begins and ends in made whole by what the disk holds there. */
  async #widened(offset: number, data: Uint8Array, options?: Abortable): Promise<[offset: number, sectors: Uint8Array]> {
    const start = offset - (offset % SECTOR)
    const end = Math.ceil((offset + data.length) / SECTOR) * SECTOR
    const sectors = Buffer.alloc(end - start)
    const read = (at: number): Promise<void> =>
      this.#session.read(at, sectors.subarray(at - start, at - start + SECTOR), this.#compression, options)
    if (start !== offset) await read(start)
    if (end !== offset + data.length && (end - SECTOR !== start || start === offset)) await read(end - SECTOR)
    sectors.set(data, offset - start)
    return [start, sectors]
  }

  #holdsData(offset: number): boolean {
    const piece = Math.floor(offset / PIECE)
    return this.#written === undefined || (((this.#written[piece >> 3] ?? 0) >> (piece & 7)) & 1) === 1
  }

  #mark(offset: number): void {
    const piece = Math.floor(offset / PIECE)
    if (this.#written !== undefined) this.#written[piece >> 3] = (this.#written[piece >> 3] ?? 0) | (1 << (piece & 7))
  }

  #inside(offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new AgentError('USAGE', `${length} bytes at ${offset} are outside a disk of ${this.size} bytes.`)
  }
}

/** The session is gone: says less than the error that ended it. */
const isLost = (error: unknown): boolean => error instanceof AgentError && error.code === 'UNAVAILABLE'
