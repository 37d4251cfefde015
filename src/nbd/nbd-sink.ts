import PQueue from 'p-queue'
import { type Abortable, AgentError, type BlockSink, MIB, type Range, rangeEnd, throwIfAborted } from '../core/index.ts'
import type { NbdConnection } from './connection.ts'
import { checkInside, IN_FLIGHT, requestSize } from './nbd-disk.ts'

/** One WRITE_ZEROES, bytes: the length of a request has 32 bits. */
const ZERO_BYTES = 1024 * MIB

/**
 * An export to write to; owns the connection. Writes must lie on the server's smallest blocks (USAGE), which are single bytes for files. What was
 * written stays when it is disposed without `flush`: the target belongs to the server. CONFIG when the export is read-only.
 */
export function createNbdSink(connection: NbdConnection): BlockSink {
  if (connection.info.readOnly) {
    throw new AgentError('CONFIG', `The export at ${connection.peer} is read-only.`, { subject: connection.peer })
  }
  return new NbdSink(connection)
}

class NbdSink implements BlockSink {
  readonly size: number
  readonly #connection: NbdConnection
  readonly #window = new PQueue({ concurrency: IN_FLIGHT })

  constructor(connection: NbdConnection) {
    this.size = connection.info.size
    this.#connection = connection
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    this.#check({ offset, length: data.length }, options)
    await this.#inPieces({ offset, length: data.length }, requestSize(this.#connection), (piece) =>
      this.#connection.write(piece.offset, data.subarray(piece.offset - offset, rangeEnd(piece) - offset), options),
    )
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    this.#check(range, options)
    if (this.#connection.info.canWriteZeroes) {
      await this.#inPieces(range, ZERO_BYTES, (piece) => this.#connection.writeZeroes(piece, options))
      return
    }
    const zeros = Buffer.alloc(Math.min(requestSize(this.#connection), range.length))
    await this.#inPieces(range, requestSize(this.#connection), (piece) =>
      this.#connection.write(piece.offset, zeros.subarray(0, piece.length), options),
    )
  }

  async flush(options?: Abortable): Promise<void> {
    // A server that offers no flush has nothing to make durable.
    if (this.#connection.info.canFlush) await this.#connection.flush(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]()
  }

  #check(range: Range, options?: Abortable): void {
    checkInside(range, this.size, this.#connection.peer)
    throwIfAborted(options)
    const { smallestBlock } = this.#connection.info
    if (range.offset % smallestBlock === 0 && (range.length % smallestBlock === 0 || rangeEnd(range) === this.size)) return
    throw new AgentError('USAGE', `${range.length} bytes at ${range.offset} are not whole blocks of ${smallestBlock} bytes.`)
  }

  /** All pieces have ended when it does, also when one failed. Only as many are begun as the window holds. */
  async #inPieces(range: Range, size: number, work: (piece: Range) => Promise<void>): Promise<void> {
    const pieces: Promise<void>[] = []
    for (let offset = range.offset; offset < rangeEnd(range); offset += size) {
      const piece = { offset, length: Math.min(size, rangeEnd(range) - offset) }
      pieces.push(this.#window.add(() => work(piece)))
    }
    const failed = (await Promise.allSettled(pieces)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}
