import PQueue from 'p-queue'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  coalesceExtents,
  type Extent,
  MIB,
  type Range,
  rangeEnd,
  SECTOR,
  throwIfAborted,
} from '../core/index.ts'
import type { ChunkCompression } from './chunk-codec.ts'
import { type DiskInfo, MAX_QUERY_CHUNKS, type NfcSession } from './session.ts'

/** Largest single read request, and how many of one session are in flight. */
const READ_BYTES = MIB
const IN_FLIGHT = 16
/** What one bit of the map of allocated blocks stands for, and how much is asked at once: hosts are slow at it. Bytes. */
const CHUNK = 64 * 1024
const SLICE = 2 * 1024 * MIB

export type NfcDisk = BlockSource & { readonly info: DiskInfo }

/**
 * An open disk of a session as a source; owns the session. Reads of any size are cut into requests of 1 MiB, 16 of them in flight; extents come from
 * the host's map of allocated blocks, which covers the whole chain, so that what is not allocated is zero.
 */
export function createNfcDisk(session: NfcSession, info: DiskInfo, compression: ChunkCompression): NfcDisk {
  return new SessionDisk(session, info, compression)
}

class SessionDisk implements NfcDisk {
  readonly size: number
  readonly info: DiskInfo
  readonly #session: NfcSession
  readonly #compression: ChunkCompression
  readonly #window = new PQueue({ concurrency: IN_FLIGHT })

  constructor(session: NfcSession, info: DiskInfo, compression: ChunkCompression) {
    this.size = info.capacity
    this.info = info
    this.#session = session
    this.#compression = compression
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, into.length)
    if (into.length === 0) return
    const start = offset - (offset % SECTOR)
    const end = Math.ceil((offset + into.length) / SECTOR) * SECTOR
    if (start === offset && end === offset + into.length) return this.#readSectors(offset, into, options)
    const sectors = Buffer.allocUnsafe(end - start)
    await this.#readSectors(start, sectors, options)
    into.set(sectors.subarray(offset - start, offset - start + into.length))
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    throwIfAborted(options)
    this.#inside(range.offset, range.length)
    yield* coalesceExtents(this.#extents(range, options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]()
  }

  #inside(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new AgentError('USAGE', `${length} bytes at ${offset} are outside a disk of ${this.size} bytes.`)
  }

  async #readSectors(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const parts: Promise<void>[] = []
    for (let at = 0; at < into.length; at += READ_BYTES) {
      const part = into.subarray(at, at + READ_BYTES)
      parts.push(this.#window.add(() => this.#session.read(offset + at, part, this.#compression, options)))
    }
    // All have ended before the caller gets its buffer back, also when one failed.
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    /** Only whole chunks can be asked for; the last piece of a disk that is no multiple counts as data. */
    const whole = this.size - (this.size % CHUNK)
    for (let at = range.offset; at < rangeEnd(range); ) {
      throwIfAborted(options)
      if (at >= whole) {
        yield { offset: at, length: rangeEnd(range) - at, kind: 'data' }
        return
      }
      const first = Math.floor(at / CHUNK)
      const last = Math.min(Math.ceil(Math.min(rangeEnd(range), whole) / CHUNK), first + Math.min(SLICE / CHUNK, MAX_QUERY_CHUNKS))
      const bits = await this.#session.allocated(first * CHUNK, CHUNK, last - first, options)
      for (let chunk = first; chunk < last; chunk++) {
        const stop = Math.min((chunk + 1) * CHUNK, rangeEnd(range))
        const set = ((bits[(chunk - first) >> 3] ?? 0) >> ((chunk - first) & 7)) & 1
        yield { offset: at, length: stop - at, kind: set === 1 ? 'data' : 'zero' }
        at = stop
      }
    }
  }
}
