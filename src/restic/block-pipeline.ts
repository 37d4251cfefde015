import type { Abortable } from '../core/index.ts'

/** A place for blocks in memory shared with the worker threads: one, or several one after the other. The caller fills it, then submits or releases it. */
export interface BlockSlot {
  /** `slotBytes` bytes, with whatever the last user left in them. Not to be touched after `submit` or `release`. */
  readonly bytes: Uint8Array
  /** Gives the slot back unused. Idempotent; without effect after `submit`. */
  release(): void
}

/** What became of a block. */
export type StoredBlock = {
  /** SHA-256 of the block; the caller's own copy. */
  readonly id: Uint8Array
  /** Bytes added to the repository; 0 when it was known. */
  readonly storedBytes: number
  /** All bytes were zero. */
  readonly zero: boolean
}

/**
 * Takes the blocks of disk images: zero test, SHA-256, look-up, zstd and sealing in worker threads, packs on the main thread.
 * Memory is bounded by its slots; `acquire` is the back-pressure. Blocks may be submitted by several disks at once and finish in any
 * order, so the caller puts each id at its own place. A failure anywhere (full repository, lost lock, dead worker) rejects every
 * pending and later call with that error.
 */
export interface BlockPipeline {
  /** Bytes of a slot: the largest block. */
  readonly slotBytes: number
  /** Slots in all; no more are ever under way. */
  readonly slots: number
  /** A free slot; waits for one, first come first served. CANCELED, CAPACITY, CONFLICT (lock lost), INTERNAL. */
  acquire(options?: Abortable): Promise<BlockSlot>
  /**
   * Hands a filled slot over. Resolves when the block is in a pack (not yet durable: `commit` makes it so). The promise itself need not
   * be awaited, `commit` throws its failure; one derived from it (`.then`) must be.
   */
  submit(slot: BlockSlot, length: number): Promise<StoredBlock>
  /**
   * The same for several blocks that stand one after the other from the slot's beginning, 64 at most; what became of each, in their order. As cheap as
   * one block of the same bytes in all, so that small blocks are best handed over together.
   */
  submitBlocks(slot: BlockSlot, lengths: readonly number[]): Promise<readonly StoredBlock[]>
  /** Stores the block of `length` zeros, once, without a slot, and returns its id. Cheap when called again. */
  zero(length: number): Promise<StoredBlock>
}
