import { AgentError, Coverage } from '../core/index.ts'
import { COMPRESSION, decodeChunk } from './chunk-codec.ts'

/** Payload of a read's reply, after the record's header. */
export type ReadReply = {
  readonly status: bigint
  readonly compression: number
  /** Offset of the request, bytes. */
  readonly offset: bigint
  readonly total: number
  readonly position: number
  readonly length: number
  readonly tail: number
}

export const decodeReadReply = (payload: Buffer): ReadReply => ({
  status: payload.readBigUInt64LE(0),
  compression: payload.readUInt32LE(12),
  offset: payload.readBigUInt64LE(16),
  total: payload.readUInt32LE(24),
  position: payload.readUInt32LE(28),
  length: payload.readUInt32LE(32),
  tail: payload.readUInt32LE(36),
})

/** One read on its way: collects chunks, in any order, until they cover it. */
export class PendingRead {
  readonly offset: number
  readonly #into: Uint8Array
  readonly #covered: Coverage
  #abandoned = false

  constructor(offset: number, into: Uint8Array) {
    this.offset = offset
    this.#into = into
    this.#covered = new Coverage(into.length)
  }

  /** The caller is gone: what still comes is dropped. */
  abandon(): void {
    this.#abandoned = true
  }

  get complete(): boolean {
    return this.#covered.complete
  }

  /**
   * Takes note of a chunk that comes next; refuses one that is not a new part of this read, or that would not come whole. `limit` is the session's
   * buffer size. INTEGRITY.
   */
  expect(reply: ReadReply, limit: number): void {
    const { position, length } = reply
    const end = position + length
    if (reply.offset !== BigInt(this.offset) || reply.total !== this.#into.length || length === 0 || end > reply.total || length > limit) {
      throw new AgentError(
        'INTEGRITY',
        `A chunk of ${length} bytes at ${position} does not belong to the read of ${this.#into.length} bytes at ${this.offset}.`,
      )
    }
    if (reply.compression === COMPRESSION.none && reply.tail !== length)
      throw new AgentError('INTEGRITY', `A chunk of ${length} bytes came with ${reply.tail}.`)
    if (!this.#covered.add(position, length)) {
      throw new AgentError('INTEGRITY', `The bytes at ${this.offset + position} came twice, or in pieces without number.`)
    }
  }

  /** The expected chunk comes as it is: where its next piece goes. Nothing is written into the caller's buffer after it has gone. */
  pieces(reply: ReadReply): (piece: Buffer) => void {
    let at = reply.position
    return (piece) => {
      if (!this.#abandoned) this.#into.set(piece, at)
      at += piece.length
    }
  }

  /** Decodes the expected chunk into its place; synchronous, for the same reason. */
  decode(reply: ReadReply, tail: Buffer): void {
    const { position, length } = reply
    decodeChunk(reply.compression, tail, this.#abandoned ? Buffer.allocUnsafe(length) : this.#into.subarray(position, position + length))
  }
}
