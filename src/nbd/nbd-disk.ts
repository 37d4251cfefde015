import PQueue from 'p-queue'
import {
  type Abortable,
  AgentError,
  alignRange,
  type BlockSource,
  coalesceExtents,
  type Extent,
  MIB,
  type Range,
  rangeEnd,
  throwIfAborted,
} from '../core/index.ts'
import type { NbdConnection } from './connection.ts'
import { outOfStep } from './nbd-error.ts'
import { EXTENT } from './protocol.ts'

/** Largest single request, and how many of one connection are in flight. */
export const REQUEST_SIZE = 2 * MIB
export const IN_FLIGHT = 16
/** Asked for at once of the map of allocated areas. Bytes. */
const STATUS_BYTES = 1024 * MIB

/** An export as a source; owns the connection. Reads of any size and place; extents come from `base:allocation` where the server has it. */
export function createNbdDisk(connection: NbdConnection): BlockSource {
  return new NbdDisk(connection)
}

class NbdDisk implements BlockSource {
  readonly size: number
  readonly #connection: NbdConnection
  readonly #window = new PQueue({ concurrency: IN_FLIGHT })

  constructor(connection: NbdConnection) {
    this.size = connection.info.size
    this.#connection = connection
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside({ offset, length: into.length }, this.size, this.#connection.peer)
    throwIfAborted(options)
    if (into.length === 0) return
    const wide = this.#blocks({ offset, length: into.length })
    if (wide.offset === offset && wide.length === into.length) return this.#readBlocks(offset, into, options)
    const blocks = Buffer.allocUnsafe(wide.length)
    await this.#readBlocks(wide.offset, blocks, options)
    into.set(blocks.subarray(offset - wide.offset, offset - wide.offset + into.length))
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range, this.size, this.#connection.peer)
    throwIfAborted(options)
    yield* coalesceExtents(this.#extents(range, options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]()
  }

  async #readBlocks(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const size = requestSize(this.#connection)
    const parts: Promise<void>[] = []
    for (let at = 0; at < into.length; at += size) {
      const part = into.subarray(at, at + size)
      parts.push(this.#window.add(() => this.#connection.read(offset + at, part, options)))
    }
    // All have ended before the caller gets its buffer back, also when one failed.
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const end = rangeEnd(range)
    if (this.#connection.info.allocation === undefined) {
      yield { ...range, kind: 'data' }
      return
    }
    for (let at = range.offset; at < end; ) {
      throwIfAborted(options)
      const asked = this.#blocks({ offset: at, length: Math.min(STATUS_BYTES, end - at) })
      const before = at
      let start = asked.offset
      for (const { length, flags } of await this.#window.add(() => this.#connection.blockStatus(asked, options))) {
        const stop = Math.min(start + length, end)
        // Without ZERO a hole says nothing of its bytes.
        if (stop > at) yield { offset: at, length: stop - at, kind: (flags & EXTENT.zero) !== 0 ? 'zero' : 'data' }
        at = Math.max(at, stop)
        start += length
        if (at >= end) return
      }
      if (at === before) throw outOfStep(this.#connection.peer, 'extents smaller than its blocks')
    }
  }

  /** Widened to whole blocks; a disk that is no multiple of them ends where it ends. */
  #blocks(range: Range): Range {
    const wide = alignRange(range, this.#connection.info.smallestBlock)
    return { offset: wide.offset, length: Math.min(wide.length, this.size - wide.offset) }
  }
}

/** Bytes of the largest request of a connection, a multiple of its smallest block. */
export const requestSize = (connection: NbdConnection): number => Math.min(REQUEST_SIZE, connection.info.largestPayload)

/** Throws USAGE unless the range lies inside a disk of `size` bytes. */
export function checkInside({ offset, length }: Range, size: number, name: string): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= size) return
  throw new AgentError('USAGE', `${length} bytes at ${offset} are outside the disk at ${name}, which has ${size} bytes.`)
}
