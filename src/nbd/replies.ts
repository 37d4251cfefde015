import { type ByteChannel, type Extent, isZero } from '../core/index.ts'
import { CHUNK, CHUNK_DONE, CHUNK_MAGIC, EXTENT, SIMPLE_MAGIC } from './protocol.ts'
import { ALLOCATION_ID } from './server-handshake.ts'

/** Runs of zeros are looked for in pieces of this size. Bytes. */
const HOLE_UNIT = 32 * 1024
const LONGEST_TEXT = 512

/** What a server says: one reply, or one chunk of it, whole. Each resolves when the system has taken it, which is the back-pressure of the client. */
export class Replies {
  readonly #channel: ByteChannel
  /** The end of what was begun last: a reply in several writes has the connection to itself. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(channel: ByteChannel) {
    this.#channel = channel
  }

  /** A reply without chunks; the bytes of a read follow by `more`, undisturbed. */
  simple(cookie: Buffer, error: number, more?: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
    const head = Buffer.alloc(16)
    head.writeUInt32BE(SIMPLE_MAGIC, 0)
    head.writeUInt32BE(error, 4)
    cookie.copy(head, 8)
    return this.#inTurn(async () => {
      await this.#channel.write(head)
      await more?.((bytes) => this.#channel.write(bytes))
    })
  }

  /** Bytes at `offset`, long runs of zeros as holes; `last` ends the reply. `whole` = in one chunk. */
  data(cookie: Buffer, offset: number, bytes: Buffer, options: { readonly last: boolean; readonly whole: boolean }): Promise<void> {
    const runs = options.whole ? [{ start: 0, end: bytes.length, zero: isZero(bytes) }] : zeroRuns(bytes)
    const parts = runs.flatMap(({ start, end, zero }, index) => {
      const flags = options.last && index === runs.length - 1 ? CHUNK_DONE : 0
      const head = Buffer.alloc(zero ? 32 : 28)
      writeChunk(head, flags, zero ? CHUNK.offsetHole : CHUNK.offsetData, cookie, zero ? 12 : 8 + end - start)
      head.writeBigUInt64BE(BigInt(offset + start), 20)
      if (!zero) return [head, bytes.subarray(start, end)]
      head.writeUInt32BE(end - start, 28)
      return [head]
    })
    return this.#inTurn(() => this.#channel.write(...parts))
  }

  status(cookie: Buffer, extents: readonly Extent[]): Promise<void> {
    const chunk = Buffer.alloc(24 + extents.length * 8)
    writeChunk(chunk, CHUNK_DONE, CHUNK.blockStatus, cookie, chunk.length - 20)
    chunk.writeUInt32BE(ALLOCATION_ID, 20)
    extents.forEach(({ length, kind }, index) => {
      chunk.writeUInt32BE(length, 24 + index * 8)
      chunk.writeUInt32BE(kind === 'data' ? 0 : EXTENT.hole | EXTENT.zero, 28 + index * 8)
    })
    return this.#inTurn(() => this.#channel.write(chunk))
  }

  error(cookie: Buffer, errno: number, text: string): Promise<void> {
    const said = Buffer.from(text.toWellFormed().slice(0, LONGEST_TEXT))
    const chunk = Buffer.alloc(26 + said.length)
    writeChunk(chunk, CHUNK_DONE, CHUNK.error, cookie, 6 + said.length)
    chunk.writeUInt32BE(errno, 20)
    chunk.writeUInt16BE(said.length, 24)
    said.copy(chunk, 26)
    return this.#inTurn(() => this.#channel.write(chunk))
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => undefined) // met by who waits for `done`; the next one meets the broken channel itself
    return done
  }
}

function writeChunk(head: Buffer, flags: number, type: number, cookie: Buffer, length: number): void {
  head.writeUInt32BE(CHUNK_MAGIC, 0)
  head.writeUInt16BE(flags, 4)
  head.writeUInt16BE(type, 6)
  cookie.copy(head, 8)
  head.writeUInt32BE(length, 16)
}

type Run = { start: number; end: number; readonly zero: boolean }

function zeroRuns(bytes: Buffer): readonly Run[] {
  const runs: Run[] = []
  for (let start = 0; start < bytes.length; start += HOLE_UNIT) {
    const end = Math.min(bytes.length, start + HOLE_UNIT)
    const zero = end - start === HOLE_UNIT && isZero(bytes.subarray(start, end))
    const last = runs.at(-1)
    if (last?.zero === zero) last.end = end
    else runs.push({ start, end, zero })
  }
  return runs
}
