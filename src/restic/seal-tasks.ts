import type { FilledPack } from './pack-digests.ts'
import type { SealKey } from './sealing.ts'

/**
 * Kinds of task: SHA-256 of blocks in a slot; compress and seal them; SHA-256 of packs; open sealed blobs into blocks; SHA-256 of blocks and at once, while
 * a core has them at hand, compress and seal them.
 */
export const HASH = 0
export const SEAL = 1
export const DIGEST = 2
export const OPEN = 3
export const STORE = 4

/**
 * [task number, memory, kind, slot, blocks in the slot, zstd level of SEAL and STORE, 0: as it is, what OPEN puts the blocks into], or
 * [task number, memory, DIGEST, packs]
 */
export type TaskMessage =
  | readonly [number, number, typeof HASH | typeof SEAL | typeof OPEN | typeof STORE, number, number, number, OpenInto | undefined]
  | readonly [number, number, typeof DIGEST, readonly FilledPack[]]
/** Memories beside the slot, or the descriptor of a file of this process that reads as zeros where the blocks go. */
export type OpenInto = readonly SharedArrayBuffer[] | number
/** [task number, true: the result lies in the slot | the digests of packs | why a file could not be written] */
export type ReplyMessage = readonly [number, true | readonly Uint8Array[] | WriteFailure]
/** What of an error of Node's `fs` passes between threads. */
export type WriteFailure = { readonly code: string; readonly message: string }
/** Answered by nothing; in order with the tasks. */
export type ThreadMessage = { readonly key: SealKey } | ({ readonly attach: number } & SealMemory) | { readonly detach: number }

/** Memory that threads work in: slots of blocks, and buffers that packs are put together in. */
export type SealMemory = {
  readonly slots: readonly SharedArrayBuffer[]
  readonly packs: readonly SharedArrayBuffer[]
  /** Plain bytes of a slot. */
  readonly blockSize: number
}

/** `turns`: of all threads that write files of the repository's restores (`WriteTurns`). */
export type SealWorkerData = { readonly codec: 'auto' | 'zlib'; readonly turns: SharedArrayBuffer }

/** A slot holds this many blocks at most, one after the other. One message to a thread for several small blocks costs what one for a large one does. */
export const MOST_BLOCKS = 64

/** A block's entry at the head of its slot: what the task is given (bytes of the block, whether it is asked for) and what it answers. */
const ENTRY_BYTES = 64
const ID_AT = 0
const LENGTH_AT = 32
/** 0: not; otherwise one more than the number of the memory that the block is opened into. */
const WANTED_AT = 36
const SEALED_AT = 40
const SEALED_LENGTH_AT = 44
const PLAIN_LENGTH_AT = 48
/** 0: the block is not what its id says; otherwise one more than the bytes of it that a file got. */
const SOUND_AT = 52
const INTO_AT = 56
/** The blocks begin after the entries, clear of the page (see `readMemory`). */
const META_BYTES = MOST_BLOCKS * ENTRY_BYTES + 64

/** Room for the sealed form of all blocks of a slot: what zstd may need at worst, IV and MAC. */
const sealedRoom = (blockSize: number): number => blockSize + Math.ceil(blockSize / 128) + MOST_BLOCKS * 1024

/** Bytes of a slot's shared memory. */
export const slotBytes = (blockSize: number): number => blockSize + sealedRoom(blockSize) + META_BYTES

/** A sealed blob in a slot's room that is to be opened. */
export type SealedEntry = {
  readonly id: Uint8Array
  readonly sealedAt: number
  readonly sealedLength: number
  /** Bytes of the block; 0: it was stored as it is. */
  readonly plainLength: number
  /** Which of the memories that the task names the block goes into, counted from 1; 0: into its slot. Without meaning where it goes into a file. */
  readonly memory: number
  /** Where the block goes in that memory or file, bytes; without meaning where it goes into its slot. */
  readonly intoAt: number
}

/**
 * What a thread is told of a block, and what it answers: `id` of HASH and STORE; where it lies sealed of SEAL and STORE, `plainLength` 0 for a block stored as it is; whether it
 * is `sound` of OPEN.
 */
export type BlockEntry = SealedEntry & {
  readonly length: number
  readonly wanted: boolean
  /** Bytes written to a file; pages of zeros are not. */
  readonly written: number
  readonly sound: boolean
}

/** A slot's memory, as both sides see it. */
export class SlotMemory {
  readonly plain: Buffer
  readonly sealed: Buffer
  readonly #meta: Buffer

  constructor(memory: SharedArrayBuffer, blockSize: number) {
    this.#meta = Buffer.from(memory, 0, META_BYTES)
    this.plain = Buffer.from(memory, META_BYTES, blockSize)
    this.sealed = Buffer.from(memory, META_BYTES + blockSize, sealedRoom(blockSize))
  }

  /** Says which of the blocks a task is for. */
  ask(lengths: readonly number[], wanted: ReadonlySet<number>): void {
    for (const [block, length] of lengths.entries()) {
      this.#meta.writeUInt32LE(length, block * ENTRY_BYTES + LENGTH_AT)
      this.#meta.writeUInt32LE(wanted.has(block) ? 1 : 0, block * ENTRY_BYTES + WANTED_AT)
    }
  }

  /** The `id` is a view of the slot. */
  entry(block: number): BlockEntry {
    const at = block * ENTRY_BYTES
    const word = (offset: number): number => this.#meta.readUInt32LE(at + offset)
    return {
      length: word(LENGTH_AT),
      wanted: word(WANTED_AT) > 0,
      memory: Math.max(word(WANTED_AT) - 1, 0),
      id: this.#meta.subarray(at + ID_AT, at + ID_AT + 32),
      sealedAt: word(SEALED_AT),
      sealedLength: word(SEALED_LENGTH_AT),
      plainLength: word(PLAIN_LENGTH_AT),
      intoAt: this.#meta.readDoubleLE(at + INTO_AT),
      sound: word(SOUND_AT) > 0,
      written: Math.max(word(SOUND_AT) - 1, 0),
    }
  }

  /** Asks for sealed blobs to be opened, each into its block. */
  askOpen(lengths: readonly number[], entries: readonly SealedEntry[]): void {
    this.ask(lengths, new Set(entries.keys()))
    for (const [block, { id, sealedAt, sealedLength, plainLength, memory, intoAt }] of entries.entries()) {
      this.answerId(block, id)
      this.#meta.writeUInt32LE(memory + 1, block * ENTRY_BYTES + WANTED_AT)
      this.#meta.writeDoubleLE(intoAt, block * ENTRY_BYTES + INTO_AT)
      this.answerSealed(block, sealedAt, sealedLength, plainLength)
      this.answerSound(block, false)
    }
  }

  answerSound(block: number, sound: boolean, written = 0): void {
    this.#meta.writeUInt32LE(sound ? written + 1 : 0, block * ENTRY_BYTES + SOUND_AT)
  }

  answerId(block: number, id: Uint8Array): void {
    this.#meta.set(id, block * ENTRY_BYTES + ID_AT)
  }

  answerSealed(block: number, at: number, length: number, plainLength: number): void {
    this.#meta.writeUInt32LE(at, block * ENTRY_BYTES + SEALED_AT)
    this.#meta.writeUInt32LE(length, block * ENTRY_BYTES + SEALED_LENGTH_AT)
    this.#meta.writeUInt32LE(plainLength, block * ENTRY_BYTES + PLAIN_LENGTH_AT)
  }
}
