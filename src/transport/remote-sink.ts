import {
  type Abortable,
  AgentError,
  type BlockSink,
  effect,
  isZero,
  KIB,
  MIB,
  type Range,
  rangeEnd,
  throwIfAborted,
} from '../core/index.ts'
import type { WritableRemoteFile } from '../ssh/index.ts'

/** Zero runs shorter than this travel as data. */
const BLOCK = 64 * KIB
/** Whether anything was stored is kept for each MiB of the disk, a bit each: what VMFS allocates at once. */
const REGION = MIB
const ZEROS = Buffer.alloc(MIB)

/** A part of the disk and where it lies: `[offset, offset + length)` of the disk begins at `start` of the file. Bytes. */
export type RemotePart = { readonly file: WritableRemoteFile; readonly offset: number; readonly length: number; readonly start: number }

/**
 * An empty disk whose flat files lie on a host, to be written in any order. Zeros are not sent where nothing was stored yet, so that thin stays thin.
 * `parts` are in order and gapless. Owns `held`. What was written stays when it is disposed without `flush`: the disk is its maker's to remove.
 */
export function remoteSink(name: string, parts: readonly RemotePart[], held: AsyncDisposable): BlockSink {
  return new RemoteSink(name, parts, held)
}

class RemoteSink implements BlockSink {
  readonly size: number
  readonly #name: string
  readonly #parts: readonly RemotePart[]
  readonly #held: AsyncDisposable
  readonly #stored: Uint8Array

  constructor(name: string, parts: readonly RemotePart[], held: AsyncDisposable) {
    this.#name = name
    this.#parts = parts
    this.#held = held
    this.size = parts.reduce((sum, { length }) => sum + length, 0)
    this.#stored = new Uint8Array(Math.ceil(this.size / REGION / 8))
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    this.#check(offset, data.length, options)
    for (let at = 0; at < data.length; ) {
      const start = at
      const zero = isZero(data.subarray(at, at + BLOCK))
      do at = Math.min(at + BLOCK, data.length)
      while (at < data.length && isZero(data.subarray(at, at + BLOCK)) === zero)
      if (zero) await this.#clear({ offset: offset + start, length: at - start }, options)
      else await this.#put(offset + start, data.subarray(start, at), options)
    }
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    this.#check(range.offset, range.length, options)
    await this.#clear(range, options)
  }

  async flush(options?: Abortable): Promise<void> {
    for (const file of new Set(this.#parts.map((part) => part.file))) await file.sync(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#held[Symbol.asyncDispose]()
  }

  #check(offset: number, length: number, options?: Abortable): void {
    throwIfAborted(options)
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new AgentError('USAGE', `The bytes ${offset} to ${offset + length} lie outside ${this.#name}, which has ${this.size}.`, {
      subject: this.#name,
    })
  }

  /** Where nothing of a region was stored it reads as zeros by itself. */
  async #clear(range: Range, options?: Abortable): Promise<void> {
    for (let at = range.offset; at < rangeEnd(range); ) {
      const stop = Math.min((Math.floor(at / REGION) + 1) * REGION, rangeEnd(range))
      if (this.#isStored(at)) await this.#put(at, ZEROS.subarray(0, stop - at), options)
      at = stop
    }
  }

  async #put(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    // Before the first await: a range that is cleared meanwhile in the same region must see it.
    for (let region = Math.floor(offset / REGION); region * REGION < offset + data.length; region++) {
      this.#stored[region >> 3] = (this.#stored[region >> 3] ?? 0) | (1 << (region & 7))
    }
    for (const part of this.#parts) {
      const from = Math.max(offset, part.offset)
      const to = Math.min(offset + data.length, part.offset + part.length)
      if (from >= to) continue
      const piece = data.subarray(from - offset, to - offset)
      await effect({ kind: 'upload', what: 'SSH write', on: `${part.file.path} at ${from}` }, () =>
        part.file.write(part.start + from - part.offset, piece, options),
      )
    }
  }

  #isStored(offset: number): boolean {
    const region = Math.floor(offset / REGION)
    return ((this.#stored[region >> 3] ?? 0) & (1 << (region & 7))) !== 0
  }
}
