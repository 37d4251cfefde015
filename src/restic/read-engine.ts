import { type Abortable, type AgentError, throwIfAborted } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { SealPool } from './seal-pool.ts'
import { MOST_BLOCKS, slotBytes } from './seal-tasks.ts'
import type { SealThreads } from './seal-threads.ts'
import { SlotPool } from './slot-pool.ts'

/** A blob in a pack, and where its bytes go. */
export type BlobToOpen = {
  readonly id: Uint8Array
  readonly offset: number
  readonly length: number
  /** 0: stored as it is. */
  readonly uncompressedLength: number
  /** Exactly as long as the blob's plain bytes. */
  readonly into: Uint8Array
}

export type ReadEngineParts = {
  readonly backend: Backend
  readonly threads: SealThreads
  readonly workers: number
  /** Plain bytes of what is opened in one go, at most. */
  readonly blockSize: number
}

/** Bytes between two blobs of a pack that are read and thrown away rather than asked for around. */
const MOST_GAP = 64 * 1024
/** What the seals of incompressible blocks that fill a slot may take beyond it. */
const SEALS = 32 * 1024

type Slots = { readonly pool: SealPool; readonly free: SlotPool }

/**
 * Opens many blobs at a time: neighbours in a pack are read in one go and opened in worker threads, into memory shared with them: that of a few slots,
 * whatever is read, taken with the first use.
 */
export class ReadEngine implements AsyncDisposable {
  /** The largest blob it opens, plain bytes. */
  readonly blockSize: number
  readonly #parts: ReadEngineParts
  #slots: Slots | undefined

  constructor(parts: ReadEngineParts) {
    this.#parts = parts
    this.blockSize = parts.blockSize
  }

  /**
   * Reads blobs of one pack, in the order of their offsets. Returns those that were not found to be what their ids say: they are the caller's to look for
   * elsewhere. Errors: those of the backend, CANCELED, INTERNAL (a thread died).
   */
  async open(pack: string, blobs: readonly BlobToOpen[], options?: Abortable): Promise<readonly BlobToOpen[]> {
    const failed = await Promise.all([...this.#groups(blobs)].map((group) => this.#openGroup(pack, group, options)))
    return failed.flat()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#slots?.pool[Symbol.asyncDispose]()
  }

  async #openGroup(pack: string, group: readonly BlobToOpen[], options?: Abortable): Promise<readonly BlobToOpen[]> {
    const { pool, free } = this.#start()
    const slot = await free.acquire(options)
    try {
      const start = group[0]?.offset ?? 0
      const end = group.reduce((most, { offset, length }) => Math.max(most, offset + length), start)
      const range = { offset: start, length: end - start }
      const room = pool.sealed(slot)
      const loaded = await this.#parts.backend.load({ kind: 'data', name: pack }, { signal: options?.signal, range, into: room })
      // A backend may answer in memory of its own.
      if (loaded.buffer !== room.buffer) room.set(loaded)
      throwIfAborted(options)
      const lengths = group.map(({ into }) => into.length)
      const entries = group.map(({ id, offset, length, uncompressedLength }) => ({
        id,
        sealedAt: offset - start,
        sealedLength: length,
        plainLength: uncompressedLength,
      }))
      const sound = await pool.open(slot, lengths, entries)
      const failed: BlobToOpen[] = []
      let at = 0
      for (const [index, blob] of group.entries()) {
        if (sound[index] === true) pool.plain(slot).copy(blob.into, 0, at)
        else failed.push(blob)
        at += blob.into.length
      }
      return failed
    } finally {
      free.release(slot)
    }
  }

  /** Neighbours that fit into a slot, sealed and plain. */
  *#groups(blobs: readonly BlobToOpen[]): Generator<readonly BlobToOpen[]> {
    const { blockSize } = this.#parts
    let group: BlobToOpen[] = []
    let plain = 0
    for (const blob of blobs) {
      const first = group[0]
      const last = group.at(-1)
      const near =
        first !== undefined &&
        last !== undefined &&
        blob.offset >= last.offset + last.length &&
        blob.offset - (last.offset + last.length) <= MOST_GAP
      const fits =
        near &&
        plain + blob.into.length <= blockSize &&
        blob.offset + blob.length - first.offset <= blockSize + SEALS &&
        group.length < MOST_BLOCKS
      if (!fits && group.length > 0) {
        yield group
        group = []
        plain = 0
      }
      group.push(blob)
      plain += blob.into.length
    }
    if (group.length > 0) yield group
  }

  #start(): Slots {
    if (this.#slots !== undefined && !this.#slots.pool.dead) return this.#slots
    const { threads, workers, blockSize } = this.#parts
    const count = workers * 6
    const slots = Array.from({ length: count }, () => new SharedArrayBuffer(slotBytes(blockSize)))
    const free = new SlotPool(count)
    const fail = (error: AgentError): void => free.fail(error)
    this.#slots = { pool: new SealPool(threads.start(), { slots, packs: [], blockSize }, fail), free }
    return this.#slots
  }
}
