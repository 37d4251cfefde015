import { AgentError } from '../core/index.ts'
import { DIGEST, HASH, OPEN, SEAL, type SealedEntry, type SealMemory, SlotMemory } from './seal-tasks.ts'
import type { RunningThreads } from './seal-threads.ts'

export type SealedBlock = { readonly sealed: Buffer; readonly uncompressedLength: number }

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
    await this.#run(HASH, slot, lengths.length)
    return wanted.map((block) => Uint8Array.from(memory.entry(block).id))
  }

  /** Compresses (`level` 0: not) and seals the `wanted` ones. The results, in that order, lie in the slot. */
  async seal(slot: number, lengths: readonly number[], wanted: readonly number[], level: number): Promise<readonly SealedBlock[]> {
    const memory = this.#slot(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run(SEAL, slot, lengths.length, level)
    return wanted.map((block) => {
      const { sealedAt, sealedLength, plainLength } = memory.entry(block)
      return { sealed: memory.sealed.subarray(sealedAt, sealedAt + sealedLength), uncompressedLength: plainLength }
    })
  }

  /** Room of a slot for sealed blobs. */
  sealed(slot: number): Buffer {
    return this.#slot(slot).sealed
  }

  /**
   * Opens sealed blobs that lie in a slot's room, each into the block of its number; what lies there is used up. Which of them were found to be what
   * their ids say; the bytes of the others mean nothing.
   */
  async open(slot: number, lengths: readonly number[], entries: readonly SealedEntry[]): Promise<readonly boolean[]> {
    const memory = this.#slot(slot)
    memory.askOpen(lengths, entries)
    await this.#run(OPEN, slot, lengths.length)
    return entries.map((_entry, block) => memory.entry(block).sound)
  }

  /** SHA-256 of the first `length` bytes of a pack buffer. */
  async digest(pack: number, length: number): Promise<Uint8Array> {
    const digest = await this.#run(DIGEST, pack, length)
    if (digest === true) throw new AgentError('INTERNAL', 'A seal worker gave no digest.')
    return digest
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#threads.detach(this.#memory)
  }

  #run(kind: number, target: number, length: number, level = 0): Promise<true | Uint8Array> {
    if (this.#closed) return Promise.reject(new AgentError('CANCELED', 'The repository was closed.'))
    return this.#threads.run(this.#memory, { kind, target, length, level })
  }

  #slot(number: number): SlotMemory {
    const slot = this.#slots[number]
    if (slot === undefined) throw new AgentError('INTERNAL', `There is no slot ${number}.`)
    return slot
  }
}
