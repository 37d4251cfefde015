/** Blocks looked back over, about. */
const MEMORY = 32
/**
 * Below this share of known blocks it is cheaper to seal every block right after it was hashed: what a core has just read costs a sixth less to compress
 * (docs/performance.md), and what turns out to be known was compressed for nothing.
 */
const FEW = 1 / 8

/** How many of the blocks that came last were in the repository already. One object an engine; none were, to begin with. */
export class KnownShare {
  #share = 0

  get few(): boolean {
    return this.#share < FEW
  }

  /** Bytes that each of some blocks added; 0: it was known. */
  count(sizes: readonly number[]): void {
    for (const size of sizes) this.#share += ((size === 0 ? 1 : 0) - this.#share) / MEMORY
  }
}
