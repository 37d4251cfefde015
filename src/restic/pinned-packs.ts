import { type Abortable, throwIfAborted } from '../core/index.ts'
import type { Backend, FileRef } from './backend.ts'
import { BitSet } from './bit-set.ts'
import type { PackRange } from './index-store.ts'
import type { PackTable } from './pack-table.ts'
import type { PrunePlan } from './prune-plan.ts'
import { rowsOf } from './rewrite-index.ts'

/** Questions under way at once. */
const LANES = 8

/**
 * What the server keeps until a moment to come (Object Lock), asked of each file once: locked packs, and the packs that a locked index file names, which must stay
 * while it does.
 */
export class ServerKept {
  /** Rows that stay. */
  readonly pinned: BitSet
  /** Names of index files that stay. */
  readonly indexFiles = new Set<string>()
  /** Names of packs in no index that stay. */
  readonly stray = new Set<string>()
  readonly #backend: Backend
  readonly #table: PackTable
  readonly #asked = new Set<string>()
  #until: Date | undefined

  constructor(backend: Backend, table: PackTable) {
    this.#backend = backend
    this.#table = table
    this.pinned = new BitSet(table.count)
  }

  /** When the first of them may go, as far as it was asked for. */
  get until(): string | undefined {
    return this.#until?.toISOString()
  }

  async askForIndex(files: ReadonlyMap<string, PackRange>, options: Abortable): Promise<void> {
    await this.#each([...files], options, async ([name, range]) => {
      if (!(await this.#isKept({ kind: 'index', name }, options))) return
      this.indexFiles.add(name)
      for (const row of rowsOf(this.#table, range)) this.pinned.add(row)
    })
  }

  /** Asks for what the plan would remove. True when something of it has to stay. */
  async askFor({ remove, repack, stray }: Pick<PrunePlan, 'remove' | 'repack' | 'stray'>, options: Abortable): Promise<boolean> {
    let found = false
    await this.#each([...remove, ...repack], options, async (row) => {
      if (!(await this.#isKept({ kind: 'data', name: this.#table.name(row) }, options))) return
      this.pinned.add(row)
      found = true
    })
    await this.#each(stray, options, async ({ name }) => {
      if (!(await this.#isKept({ kind: 'data', name }, options))) return
      this.stray.add(name)
      found = true
    })
    return found
  }

  async #isKept(file: FileRef, options: Abortable): Promise<boolean> {
    if (this.#asked.has(file.name)) return false
    this.#asked.add(file.name)
    const until = await this.#backend.lockedUntil?.(file, options)
    if (until !== undefined && (this.#until === undefined || until < this.#until)) this.#until = until
    return until !== undefined
  }

  async #each<T>(all: readonly T[], options: Abortable, work: (each: T) => Promise<void>): Promise<void> {
    if (this.#backend.lockedUntil === undefined) return
    const left = [...all]
    const lane = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        throwIfAborted(options)
        await work(next)
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
  }
}
