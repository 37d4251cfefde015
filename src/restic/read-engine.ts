import { type Abortable, type AgentError, allEnded, throwIfAborted } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { plainLength } from './blob-records.ts'
import { SealPool } from './seal-pool.ts'
import { MOST_BLOCKS, type SealedEntry, slotBytes } from './seal-tasks.ts'
import type { SealThreads } from './seal-threads.ts'
import { SlotPool } from './slot-pool.ts'

/** A blob in a pack. */
export type PackedBlob = {
  readonly id: Uint8Array
  readonly offset: number
  readonly length: number
  /** 0: stored as it is. */
  readonly uncompressedLength: number
}

/** A blob, and the memory its bytes go into. */
export type BlobToOpen = PackedBlob & {
  /** Exactly as long as the blob's plain bytes. In memory shared with threads it is written by them, sound or not, without a copy. */
  readonly into: Uint8Array
}

/** A blob, and the byte of a file it goes to. */
export type BlobToWrite = PackedBlob & { readonly at: number }

export type ReadEngineParts = {
  readonly backend: Backend
  readonly threads: SealThreads
  readonly workers: number
  /** Plain bytes of the largest blob. */
  readonly blockSize: number
}

/** Slots for each thread, and what one holds, plain bytes: large ones, so that messages between threads, each of which wakes somebody, are few. */
const NEAR = Object.freeze({ slots: 3, room: 4 * 1024 * 1024 })
/** Where each read waits for a far server: many under way. */
const FAR = Object.freeze({ slots: 6, room: 1024 * 1024 })

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
  readonly #slotCount: number
  /** Of a slot, plain bytes. */
  readonly #room: number
  #slots: Slots | undefined

  constructor(parts: ReadEngineParts) {
    this.#parts = parts
    this.blockSize = parts.blockSize
    const { slots, room } = (parts.backend.savesAtOnce ?? 1) > 1 ? FAR : NEAR
    this.#slotCount = slots * parts.workers
    this.#room = Math.max(parts.blockSize, room)
  }

  /**
   * Reads blobs of one pack, in the order of their offsets. Returns those that were not found to be what their ids say: they are the caller's to look for
   * elsewhere. Nothing touches their memory any more, also when it rejects. Errors: those of the backend, CANCELED, INTERNAL (a thread died).
   */
  async open(pack: string, blobs: readonly BlobToOpen[], options?: Abortable): Promise<readonly BlobToOpen[]> {
    const openGroup = async (group: readonly BlobToOpen[]): Promise<readonly BlobToOpen[]> => {
      const memory = sharedBy(group)
      return await this.#use(pack, group, options, async (slots, slot, start) => {
        const entries = group.map((blob) => entryOf(blob, start, blob.into.byteOffset))
        const opened = await slots.pool.open(slot, group.map(plainLength), entries, memory)
        const failed: BlobToOpen[] = []
        let at = 0
        for (const [index, blob] of group.entries()) {
          if (opened[index]?.sound !== true) failed.push(blob)
          else if (memory === undefined) slots.pool.plain(slot).copy(blob.into, 0, at)
          at += blob.into.length
        }
        return failed
      })
    }
    return (await allEnded([...this.#groups(blobs)].map(openGroup))).flat()
  }

  /**
   * The same into an open file that reads as zeros where they go, by the threads that open them. Bytes written, pages of zeros left out; undefined when some were not found to be what
   * their ids say, which are not written. Nothing is written any more, also when it rejects. Errors: also Node's own for the file.
   */
  async write(pack: string, blobs: readonly BlobToWrite[], descriptor: number, options?: Abortable): Promise<number | undefined> {
    const writeGroup = (group: readonly BlobToWrite[]): Promise<number | undefined> =>
      this.#use(pack, group, options, async (slots, slot, start) => {
        const entries = group.map((blob) => entryOf(blob, start, blob.at))
        return sumOf(
          (await slots.pool.open(slot, group.map(plainLength), entries, descriptor)).map(({ sound, written }) =>
            sound ? written : undefined,
          ),
        )
      })
    return sumOf(await allEnded([...this.#groups(blobs)].map(writeGroup)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#slots?.pool[Symbol.asyncDispose]()
  }

  /** Reads neighbours into a slot and gives it to `work`, with the byte of the pack that its room begins with. */
  async #use<T>(
    pack: string,
    group: readonly PackedBlob[],
    options: Abortable | undefined,
    work: (slots: Slots, slot: number, start: number) => Promise<T>,
  ): Promise<T> {
    const slots = this.#start()
    const slot = await slots.free.acquire(options)
    try {
      const start = group[0]?.offset ?? 0
      const end = group.reduce((most, { offset, length }) => Math.max(most, offset + length), start)
      const room = slots.pool.sealed(slot)
      const range = { offset: start, length: end - start }
      const loaded = await this.#parts.backend.load({ kind: 'data', name: pack }, { signal: options?.signal, range, into: room })
      // A backend may answer in memory of its own.
      if (loaded.buffer !== room.buffer) room.set(loaded)
      throwIfAborted(options)
      return await work(slots, slot, start)
    } finally {
      slots.free.release(slot)
    }
  }

  /** Neighbours that fit into a slot, sealed and plain. */
  *#groups<B extends PackedBlob>(blobs: readonly B[]): Generator<readonly B[]> {
    let group: B[] = []
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
        plain + plainLength(blob) <= this.#room &&
        blob.offset + blob.length - first.offset <= this.#room + SEALS &&
        group.length < MOST_BLOCKS
      if (!fits && group.length > 0) {
        yield group
        group = []
        plain = 0
      }
      group.push(blob)
      plain += plainLength(blob)
    }
    if (group.length > 0) yield group
  }

  #start(): Slots {
    if (this.#slots !== undefined && !this.#slots.pool.dead) return this.#slots
    const { threads } = this.#parts
    const slots = Array.from({ length: this.#slotCount }, () => new SharedArrayBuffer(slotBytes(this.#room)))
    const free = new SlotPool(this.#slotCount)
    const fail = (error: AgentError): void => free.fail(error)
    this.#slots = { pool: new SealPool(threads.start(), { slots, packs: [], blockSize: this.#room }, fail), free }
    return this.#slots
  }
}

/** The memory that all these blobs go into, when threads can write it. */
function sharedBy(blobs: readonly BlobToOpen[]): SharedArrayBuffer | undefined {
  const memory = blobs[0]?.into.buffer
  return memory instanceof SharedArrayBuffer && blobs.every(({ into }) => into.buffer === memory) ? memory : undefined
}

const entryOf = ({ id, offset, length, uncompressedLength }: PackedBlob, start: number, intoAt: number): SealedEntry => ({
  id,
  sealedAt: offset - start,
  sealedLength: length,
  plainLength: uncompressedLength,
  intoAt,
})

/** Undefined when one of the parts is. */
export const sumOf = (parts: readonly (number | undefined)[]): number | undefined =>
  parts.reduce((sum, part) => (sum === undefined || part === undefined ? undefined : sum + part), 0)
