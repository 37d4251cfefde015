import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isMissing, writeFileAtomic } from '../../core/index.ts'
import { ID_BYTES } from '../ids.ts'

/* The file `complete`: docs/formats/index-cache.md. */

const MAGIC = Buffer.from('vcbcomp1', 'latin1')
const HEAD_BYTES = MAGIC.length + 8
/** The oldest go first: 4 MiB on disk, about 16 in memory. */
const MOST = 131_072

/**
 * What was once compared with the index and found complete: that every block of a tree is stored. It stays true while the index files of then are in the repository, because
 * these never change. A writer needs not look up the two million blocks of a disk of which ten have changed.
 */
export class CompleteTrees {
  /** Keys that are durably true, the least recently used first. */
  #kept = new Map<string, true>()
  /** True of the index as it is in memory, whose newest blobs may not be stored yet. */
  #fresh = new Set<string>()

  /** Whether this was found complete. `key`: hex of a SHA-256 over all that the finding depends on. */
  has(key: string): boolean {
    if (!this.#kept.delete(key)) return this.#fresh.has(key)
    this.#kept.set(key, true)
    return true
  }

  /** Every block it names is in the index now. */
  add(key: string): void {
    if (!this.has(key)) this.#fresh.add(key)
  }

  /** Those that become durable when everything in the index now has. */
  get fresh(): readonly string[] {
    return [...this.#fresh]
  }

  /** They are durable. */
  keep(keys: readonly string[]): void {
    for (const key of keys) if (this.#fresh.delete(key)) this.#kept.set(key, true)
    for (const [oldest] of this.#kept) {
      if (this.#kept.size <= MOST) break
      this.#kept.delete(oldest)
    }
  }

  /** Nothing of it counts any more: index files have gone, or blobs were never stored. */
  clear(): void {
    this.#kept = new Map()
    this.#fresh = new Set()
  }

  /** Takes what is kept at `path`, if all index files that it stands on are `present` ones; what is damaged is not taken. Node's own errors. */
  async load(path: string, present: ReadonlySet<string>): Promise<void> {
    let bytes: Buffer
    try {
      bytes = await readFile(path)
    } catch (error) {
      if (isMissing(error)) return
      throw error
    }
    const end = bytes.length - ID_BYTES
    if (end < HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return
    if (!hash('sha256', bytes.subarray(0, end), 'buffer').equals(bytes.subarray(end))) return
    const files = bytes.readUInt32LE(MAGIC.length)
    const keys = bytes.readUInt32LE(MAGIC.length + 4)
    if (HEAD_BYTES + (files + keys) * ID_BYTES !== end) return
    const name = (number: number): string => bytes.toString('hex', HEAD_BYTES + number * ID_BYTES, HEAD_BYTES + (number + 1) * ID_BYTES)
    for (let file = 0; file < files; file++) if (!present.has(name(file))) return
    for (let key = 0; key < keys; key++) this.#kept.set(name(files + key), true)
  }

  /** Keeps it for the next process; `files` are the index files it stands on. Of two that save at once one wins, and the other's is found anew. CAPACITY, CONFIG. */
  async save(path: string, files: Iterable<string>): Promise<void> {
    const names = [...files]
    const bytes = Buffer.concat([
      MAGIC,
      Buffer.alloc(8),
      Buffer.from(names.join(''), 'hex'),
      Buffer.from([...this.#kept.keys()].join(''), 'hex'),
    ])
    bytes.writeUInt32LE(names.length, MAGIC.length)
    bytes.writeUInt32LE(this.#kept.size, MAGIC.length + 4)
    await writeFileAtomic(path, Buffer.concat([bytes, hash('sha256', bytes, 'buffer')]))
  }
}
