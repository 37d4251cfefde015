import { AgentError } from '../core/index.ts'
import type { FilledPack } from './pack-digests.ts'
import {
  type BlockEntry,
  DIGEST,
  HASH,
  OPEN,
  type OpenInto,
  SEAL,
  type SealedEntry,
  type SealMemory,
  SlotMemory,
  STORE,
} from './seal-tasks.ts'
import type { RunningThreads, SealTask } from './seal-threads.ts'

export type SealedBlock = { readonly sealed: Buffer; readonly uncompressedLength: number }
export type OpenedBlock = Pick<BlockEntry, 'sound' | 'written'>
type StoredBlocks = { readonly ids: readonly Uint8Array[]; readonly sealed: readonly SealedBlock[] }

/**
 * Blocks in slots of shared memory, which worker threads hash, compress and seal, or open, and packs that they digest. When a thread dies `onFailure` is called once, and
 * every task under way and later rejects with that error. Disposed, it leaves the threads to the others and its memory to nobody.
 */
export class SealPool implements AsyncDisposable {
  readonly #threads: RunningThreads
  readonly #memory: number
  readonly #slots: readonly SlotMemory[]
  #closed = false

  constructor(threads: RunningThreads, memory: SealMemory, onFailure: (error: AgentError) => void) {
    this.#threads = threads
    this.#slots = memory.slots.map((slot) => new SlotMemory(slot, memory.blockSize))
    this.#memory = threads.attach(memory, onFailure)
  }

  /** Nothing can be asked of it any more. */
  get dead(): boolean {
    return this.#closed || this.#threads.dead
  }

  /** The memory of a slot's blocks. */
  plain(slot: number): Buffer {
    return this.#slot(slot).plain
  }

  /** Ids of the `wanted` ones of the blocks that stand one after the other in a slot, in that order; copies. */
  async hash(slot: number, lengths: readonly number[], wanted: readonly number[]): Promise<readonly Uint8Array[]> {
    const memory = this.#slot(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run({ kind: HASH, target: slot, length: lengths.length })
    return idsOf(memory, wanted)
  }

  /** Compresses (`level` 0: not) and seals the `wanted` ones. The results, in that order, lie in the slot. */
  async seal(slot: number, lengths: readonly number[], wanted: readonly number[], level: number): Promise<readonly SealedBlock[]> {
    const memory = this.#slot(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run({ kind: SEAL, target: slot, length: lengths.length, level })
    return sealedOf(memory, wanted)
  }

  /** Both at once: half the messages, and a block that was just hashed is still in its core's cache when it is compressed. What turns out to be known was sealed for nothing. */
  async store(slot: number, lengths: readonly number[], wanted: readonly number[], level: number): Promise<StoredBlocks> {
    const memory = this.#slot(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run({ kind: STORE, target: slot, length: lengths.length, level })
    return { ids: idsOf(memory, wanted), sealed: sealedOf(memory, wanted) }
  }

  /** Room of a slot for sealed blobs. */
  sealed(slot: number): Buffer {
    return this.#slot(slot).sealed
  }

  /**
   * Opens sealed blobs that lie in a slot's room, each into the block of its number, into one of the memories of `into`, or into that file; what lies there is used up. Those that were not found to be what
   * their ids say mean nothing, and are not written to a file. Errors: INTERNAL, Node's own for the file.
   */
  async open(slot: number, lengths: readonly number[], entries: readonly SealedEntry[], into: OpenInto): Promise<readonly OpenedBlock[]> {
    const memory = this.#slot(slot)
    memory.askOpen(lengths, entries)
    await this.#run({ kind: OPEN, target: slot, length: lengths.length, into })
    return entries.map((_entry, block) => memory.entry(block))
  }

  /** SHA-256 of packs, in their order. */
  async digest(packs: readonly FilledPack[]): Promise<readonly Uint8Array[]> {
    const digests = await this.#run({ kind: DIGEST, packs })
    if (digests === true) throw new AgentError('INTERNAL', 'A seal worker gave no digest.')
    return digests
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#threads.detach(this.#memory)
  }

  #run(task: SealTask): Promise<true | readonly Uint8Array[]> {
    if (this.#closed) return Promise.reject(new AgentError('CANCELED', 'The repository was closed.'))
    return this.#threads.run(this.#memory, task)
  }

  #slot(number: number): SlotMemory {
    const slot = this.#slots[number]
    if (slot === undefined) throw new AgentError('INTERNAL', `There is no slot ${number}.`)
    return slot
  }
}

const idsOf = (memory: SlotMemory, wanted: readonly number[]): readonly Uint8Array[] =>
  wanted.map((block) => Uint8Array.from(memory.entry(block).id))

const sealedOf = (memory: SlotMemory, wanted: readonly number[]): readonly SealedBlock[] =>
  wanted.map((block) => {
    const { sealedAt, sealedLength, plainLength } = memory.entry(block)
    return { sealed: memory.sealed.subarray(sealedAt, sealedAt + sealedLength), uncompressedLength: plainLength }
  })
