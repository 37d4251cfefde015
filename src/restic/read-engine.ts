import { type Abortable, type AgentError, allEnded, throwIfAborted } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { plainLength } from './blob-records.ts'
import { neighbours, type Opening, OpeningQueue } from './opening-queue.ts'
import type { BlobToOpen, PackedBlob } from './packed-blob.ts'
import { SealPool } from './seal-pool.ts'
import { type SealedEntry, slotBytes } from './seal-tasks.ts'
import type { SealThreads } from './seal-threads.ts'
import { SlotPool } from './slot-pool.ts'

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
const NEAR = Object.freeze({ slots: 2, room: 4 * 1024 * 1024 })
/** Where each read waits for a far server: many under way. */
const FAR = Object.freeze({ slots: 6, room: 1024 * 1024 })

type Slots = { readonly pool: SealPool; readonly free: SlotPool; readonly queue: OpeningQueue }

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
    return (await allEnded([...neighbours(blobs, this.#room)].map((group) => this.#queued(pack, group, options)))).flat()
  }

  /**
   * The same into an open file that reads as zeros where they go, by the threads that open them. Bytes written, pages of zeros left out; undefined when some were not found to be what
   * their ids say, which are not written. Nothing is written any more, also when it rejects. Errors: also Node's own for the file.
   */
  async write(pack: string, blobs: readonly BlobToWrite[], descriptor: number, options?: Abortable): Promise<number | undefined> {
    const writeGroup = async (group: readonly BlobToWrite[]): Promise<number | undefined> => {
      const slots = this.#start()
      const slot = await slots.free.acquire(options)
      try {
        const start = await this.#load(slots, slot, pack, group, options)
        const entries = group.map((blob) => entryOf(blob, start, { memory: 0, intoAt: blob.at }))
        const opened = await slots.pool.open(slot, group.map(plainLength), entries, descriptor)
        return sumOf(opened.map(({ sound, written }) => (sound ? written : undefined)))
      } finally {
        slots.free.release(slot)
      }
    }
    return sumOf(await allEnded([...neighbours(blobs, this.#room)].map(writeGroup)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#slots?.pool[Symbol.asyncDispose]()
  }

  /** Opens neighbours with the next slot that is free, and with them what waits beside them by then: while all slots are busy, readers of small pieces come to large ones. */
  #queued(pack: string, blobs: readonly BlobToOpen[], options: Abortable | undefined): Promise<readonly BlobToOpen[]> {
    const slots = this.#start()
    return new Promise((resolve, reject) => {
      const opening: Opening = { pack, blobs, signal: options?.signal, resolve, reject }
      slots.queue.add(opening)
      slots.free.acquire(options).then(
        (slot) => this.#openAll(slots, slot, slots.queue.take(opening)),
        (error: unknown) => {
          if (slots.queue.drop(opening)) reject(error)
        },
      )
    })
  }

  /** Neighbours of one pack, all or none of which are told of an error. Gives the slot back. */
  async #openAll(slots: Slots, slot: number, openings: readonly Opening[]): Promise<void> {
    try {
      const blobs = openings.flatMap((opening) => opening.blobs)
      const [first] = openings
      if (first === undefined) return
      const failed = await this.#openInSlot(slots, slot, first.pack, blobs, first)
      for (const opening of openings) opening.resolve(opening.blobs.filter((blob) => failed.has(blob)))
    } catch (error) {
      for (const { reject } of openings) reject(error)
    } finally {
      slots.free.release(slot)
    }
  }

  /** Those that were not found to be what their ids say. */
  async #openInSlot(
    slots: Slots,
    slot: number,
    pack: string,
    blobs: readonly BlobToOpen[],
    options: Abortable,
  ): Promise<ReadonlySet<BlobToOpen>> {
    const start = await this.#load(slots, slot, pack, blobs, options)
    const memories: SharedArrayBuffer[] = []
    const entries = blobs.map((blob) => entryOf(blob, start, { memory: memoryOf(blob.into, memories), intoAt: blob.into.byteOffset }))
    const opened = await slots.pool.open(slot, blobs.map(plainLength), entries, memories)
    const failed = new Set<BlobToOpen>()
    let at = 0
    for (const [index, blob] of blobs.entries()) {
      if (opened[index]?.sound !== true) failed.add(blob)
      else if (entries[index]?.memory === 0) slots.pool.plain(slot).copy(blob.into, 0, at)
      at += blob.into.length
    }
    return failed
  }

  /** Reads neighbours into a slot; the byte of the pack that its room begins with. */
  async #load(slots: Slots, slot: number, pack: string, group: readonly PackedBlob[], options: Abortable | undefined): Promise<number> {
    const start = group[0]?.offset ?? 0
    const end = group.reduce((most, { offset, length }) => Math.max(most, offset + length), start)
    const room = slots.pool.sealed(slot)
    const range = { offset: start, length: end - start }
    const loaded = await this.#parts.backend.load({ kind: 'data', name: pack }, { signal: options?.signal, range, into: room })
    // A backend may answer in memory of its own.
    if (loaded.buffer !== room.buffer) room.set(loaded)
    throwIfAborted(options)
    return start
  }

  #start(): Slots {
    if (this.#slots !== undefined && !this.#slots.pool.dead) return this.#slots
    const { threads } = this.#parts
    const slots = Array.from({ length: this.#slotCount }, () => new SharedArrayBuffer(slotBytes(this.#room)))
    const free = new SlotPool(this.#slotCount)
    const fail = (error: AgentError): void => free.fail(error)
    const pool = new SealPool(threads.start(), { slots, packs: [], blockSize: this.#room }, fail)
    this.#slots = { pool, free, queue: new OpeningQueue(this.#room) }
    return this.#slots
  }
}

/** Which of the memories, one more among them if need be, threads can write these bytes to; 0: none. */
function memoryOf({ buffer }: Uint8Array, memories: SharedArrayBuffer[]): number {
  if (!(buffer instanceof SharedArrayBuffer)) return 0
  const known = memories.indexOf(buffer) + 1
  return known > 0 ? known : memories.push(buffer)
}

const entryOf = (
  { id, offset, length, uncompressedLength }: PackedBlob,
  start: number,
  into: Pick<SealedEntry, 'memory' | 'intoAt'>,
): SealedEntry => ({ id, sealedAt: offset - start, sealedLength: length, plainLength: uncompressedLength, ...into })

/** Undefined when one of the parts is. */
export const sumOf = (parts: readonly (number | undefined)[]): number | undefined =>
  parts.reduce((sum, part) => (sum === undefined || part === undefined ? undefined : sum + part), 0)
