import { hash } from 'node:crypto'
import type { Abortable } from '../core/index.ts'

/** Blocks kept; a block is at most 1 MiB. */
const MOST_KEPT = 8

export type LoadBlock = (index: number, options?: Abortable) => Promise<Uint8Array>

/** Keeps the last blocks that were loaded and found sound, so that small reads in a row verify each block once. */
export class VerifiedBlocks {
  readonly #load: LoadBlock
  readonly #kept = new Map<number, Promise<Uint8Array>>()

  constructor(load: LoadBlock) {
    this.#load = load
  }

  async get(index: number, options?: Abortable): Promise<Uint8Array> {
    const kept = this.#kept.get(index)
    if (kept !== undefined) {
      this.#kept.delete(index)
      this.#kept.set(index, kept)
      return kept
    }
    const loading = this.#load(index, options)
    this.#kept.set(index, loading)
    // A block that failed, or was canceled by one of its readers, is loaded anew for the next.
    loading.catch(() => void this.#kept.delete(index))
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MOST_KEPT) break
      this.#kept.delete(oldest)
    }
    return loading
  }
}

/** Bytes are what a 32-byte digest says. */
export const isSound = (bytes: Uint8Array, digest: Uint8Array): boolean => Buffer.compare(hash('sha256', bytes, 'buffer'), digest) === 0
