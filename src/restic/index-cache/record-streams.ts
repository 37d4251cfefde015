import type { BlobIndex } from '../blob-index.ts'
import { RECORD_WORDS } from '../blob-records.ts'
import { DamagedRun } from './damaged-run.ts'
import { type IndexRun, PAGE_RECORDS, TREE_BIT } from './index-run.ts'
import { PAGE_WORDS } from './page.ts'

/** Pages read at once. */
const PAGES = 64

/** Records in the order of a run, one at a time. */
export interface RecordStream {
  /** The current record stands here, `at` words from the beginning. Its pack number counts from 0. */
  readonly words: Uint32Array
  readonly at: number
  /** How many packs it has. */
  readonly packs: number
  packId(pack: number): Buffer
  /** Goes to the first or the next record; false when there is none. DamagedRun. */
  next(): boolean
}

/** The records of a run. */
export class RunStream implements RecordStream {
  readonly words = new Uint32Array(PAGES * PAGE_WORDS)
  at = 0
  readonly packs: number
  readonly #run: IndexRun
  #record = -1
  #loaded = 0

  constructor(run: IndexRun) {
    this.#run = run
    this.packs = run.facts.packs
  }

  packId(pack: number): Buffer {
    return this.#run.packId(pack)
  }

  next(): boolean {
    const { records, name } = this.#run.facts
    if (++this.#record >= records) return false
    const page = Math.floor(this.#record / PAGE_RECORDS)
    if (page >= this.#loaded) {
      const pages = Math.min(PAGES, Math.ceil(records / PAGE_RECORDS) - page)
      this.#run.readPages(page, pages, this.words)
      this.#loaded = page + pages
    }
    this.at = (page % PAGES) * PAGE_WORDS + (this.#record % PAGE_RECORDS) * RECORD_WORDS
    if ((this.words[this.at + 8] ?? 0) % TREE_BIT >= this.packs) throw new DamagedRun(name, 'names a pack it does not have')
    return true
  }
}

/** The records of some packs of an index in memory, which must not change meanwhile. */
export class MemoryStream implements RecordStream {
  readonly words = new Uint32Array(RECORD_WORDS)
  readonly at = 0
  readonly packs: number
  readonly #index: BlobIndex
  readonly #order: Uint32Array
  readonly #chosen: readonly number[]
  readonly #numbers = new Map<number, number>()
  #next = 0

  constructor(index: BlobIndex, packs: readonly number[]) {
    this.#index = index
    this.#chosen = packs
    this.packs = packs.length
    for (const [number, pack] of packs.entries()) this.#numbers.set(pack, number)
    this.#order = index.sorted((pack) => this.#numbers.has(pack))
  }

  get records(): number {
    return this.#order.length
  }

  packId(pack: number): Buffer {
    return this.#index.packId(this.#chosen[pack] ?? 0)
  }

  next(): boolean {
    if (this.#next >= this.#order.length) return false
    this.#index.copyRecord(this.#order[this.#next++] ?? 0, this.words, 0)
    const owner = this.words[8] ?? 0
    const pack = this.#numbers.get(owner % TREE_BIT) ?? 0
    this.words[8] = owner >= TREE_BIT ? (pack | TREE_BIT) >>> 0 : pack
    return true
  }
}
