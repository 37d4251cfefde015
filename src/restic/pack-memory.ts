import type { Backend } from './backend.ts'

/** Most data packs on their way to the backend at once: each takes memory. */
const MOST_ON_THE_WAY = 4
/** One open, one that waits for it to be digested with, one on its way. */
const FEWEST = 3
/** Data packs in memory at once: one open, the others full or on their way. */
export const packBuffers = ({ savesAtOnce = 1 }: Backend): number => Math.max(FEWEST, 1 + Math.min(savesAtOnce, MOST_ON_THE_WAY))

/** Tree packs are small, few, and hashed on the main thread. */
const TREE_PACK_BYTES = 4 * 1024 * 1024
const MOST_SPARE = 2

/** Memory of tree packs, taken again for the next one: there is one for each point at least. */
export class TreeMemory {
  readonly #spare: Buffer[] = []

  /** At least `least` bytes, not cleared. */
  take(least: number): Buffer {
    return (least <= TREE_PACK_BYTES ? this.#spare.pop() : undefined) ?? Buffer.allocUnsafeSlow(Math.max(TREE_PACK_BYTES, least))
  }

  /** Nobody reads it any more. */
  give(memory: Buffer): void {
    if (memory.length === TREE_PACK_BYTES && this.#spare.length < MOST_SPARE) this.#spare.push(memory)
  }
}
