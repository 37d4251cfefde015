import { readSync } from 'node:fs'
import { join } from 'node:path'
import { type InputFile, openInput } from '../../core/index.ts'
import type { BlobLocation } from '../blob-index.ts'
import { type BlobType, DATA, RECORD_WORDS, TREE } from '../blob-records.ts'
import { ID_BYTES } from '../ids.ts'
import { DamagedRun } from './damaged-run.ts'
import { BODY_BYTES, PAGE_BYTES, PAGE_WORDS, soundPage } from './page.ts'

export const PAGE_RECORDS = 85
export const PAGE_PACKS = 127
export const PAGE_FENCES = BODY_BYTES / 4
export const TREE_BIT = 0x8000_0000
/** Pages kept in memory, 1 MiB: all of a repository of 21,000 blobs, whose look-ups are then as cheap as in memory; next to none of a large one. */
const MOST_HELD = 256

/** What a set says of a run (docs/formats/index-cache.md). */
export type RunFacts = {
  readonly name: string
  readonly nonce: number
  readonly records: number
  readonly packs: number
  /** Names of the index files it holds. */
  readonly files: readonly string[]
}

/**
 * A sorted, immutable file of blob records, searched by reading single pages of it: a few microseconds a look-up, 4 bytes of memory for 85 blobs and 1 MiB of
 * pages, nothing to load but the former. It stays readable when its name is removed. Every look-up may throw `DamagedRun`.
 */
export class IndexRun implements AsyncDisposable {
  readonly facts: RunFacts
  readonly #file: InputFile
  readonly #recordPages: number
  /** First word of each record page. */
  readonly #fences: Uint32Array
  /** Pages that are held, each at its number modulo how many can be. */
  readonly #words: Uint32Array
  readonly #bytes: Uint8Array
  /** Which page lies where, -1 for none, and its entries. */
  readonly #numbers: Int32Array
  readonly #counts: Int32Array
  readonly #idWords = new Uint32Array(8)
  readonly #idBytes = new Uint8Array(this.#idWords.buffer)

  private constructor(facts: RunFacts, file: InputFile) {
    this.facts = facts
    this.#file = file
    this.#recordPages = Math.ceil(facts.records / PAGE_RECORDS)
    this.#fences = new Uint32Array(this.#recordPages)
    const held = Math.min(MOST_HELD, this.#recordPages + Math.ceil(facts.packs / PAGE_PACKS) + 1)
    this.#words = new Uint32Array(held * PAGE_WORDS)
    this.#bytes = new Uint8Array(this.#words.buffer)
    this.#numbers = new Int32Array(held).fill(-1)
    this.#counts = new Int32Array(held)
  }

  /** Opens a run in its directory. DamagedRun; Node's own ENOENT when it is gone. */
  static async open(directory: string, facts: RunFacts): Promise<IndexRun> {
    const file = await openInput(join(directory, facts.name))
    try {
      const run = new IndexRun(facts, file)
      run.#loadFences((await file.stat()).size)
      return run
    } catch (error) {
      await file.close()
      throw error
    }
  }

  get memoryBytes(): number {
    return this.#fences.byteLength + this.#bytes.byteLength
  }

  has(type: BlobType, id: Uint8Array): boolean {
    return this.#search(type, id, undefined)
  }

  /** Adds every place of a blob to `found`; packs are numbered from `firstPack` on. */
  findAll(type: BlobType, id: Uint8Array, firstPack: number, found: BlobLocation[]): void {
    this.#search(type, id, (words, at) => {
      const owner = words[at + 8] ?? 0
      found.push({
        type: owner >= TREE_BIT ? TREE : DATA,
        pack: firstPack + (owner % TREE_BIT),
        offset: words[at + 9] ?? 0,
        length: words[at + 10] ?? 0,
        uncompressedLength: words[at + 11] ?? 0,
      })
    })
  }

  /** A copy of the id of pack `pack` of this run. */
  packId(pack: number): Buffer {
    const held = this.#page(this.#recordPages + Math.floor(pack / PAGE_PACKS))
    const at = held * PAGE_BYTES + (pack % PAGE_PACKS) * ID_BYTES
    return Buffer.from(this.#bytes.subarray(at, at + ID_BYTES))
  }

  /** Pages in turn, `into` of them at most, from page `first` on; each verified. The number read. */
  readPages(first: number, pages: number, into: Uint32Array): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, pages * PAGE_BYTES)
    this.#read(bytes, first)
    for (let page = 0; page < pages; page++) {
      const words = into.subarray(page * PAGE_WORDS, (page + 1) * PAGE_WORDS)
      this.#verify(words, bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), first + page)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
  }

  #loadFences(size: number): void {
    const pages = Math.ceil(this.#recordPages / PAGE_FENCES)
    const first = this.#recordPages + Math.ceil(this.facts.packs / PAGE_PACKS)
    if (size !== (first + pages) * PAGE_BYTES) throw new DamagedRun(this.facts.name, `has not the size of ${this.facts.records} records`)
    for (let page = 0; page < pages; page++) {
      const held = this.#page(first + page)
      const count = this.#counts[held] ?? 0
      if (count !== Math.min(PAGE_FENCES, this.#fences.length - page * PAGE_FENCES)) throw new DamagedRun(this.facts.name, 'lacks fences')
      this.#fences.set(this.#words.subarray(held * PAGE_WORDS, held * PAGE_WORDS + count), page * PAGE_FENCES)
    }
  }

  /** Gives each record of the blob to `onFound`; without, stops at the first. */
  #search(type: BlobType, id: Uint8Array, onFound: ((words: Uint32Array, at: number) => void) | undefined): boolean {
    this.#idBytes.set(id)
    const wanted = this.#idWords[0] ?? 0
    let found = false
    // The page before the first that begins at or past it may end with it.
    for (let page = Math.max(0, this.#firstFrom(wanted) - 1); page < this.#recordPages; page++) {
      if ((this.#fences[page] ?? 0) > wanted) break
      const held = this.#page(page)
      const count = this.#counts[held] ?? 0
      for (let record = this.#firstIn(held, count, wanted); record < count; record++) {
        const at = held * PAGE_WORDS + record * RECORD_WORDS
        if (this.#words[at] !== wanted) break
        if (!this.#matches(at, type)) continue
        found = true
        if (onFound === undefined) return true
        onFound(this.#words, at)
      }
    }
    return found
  }

  /** The first page that begins with a word of at least `wanted`. */
  #firstFrom(wanted: number): number {
    let low = 0
    let high = this.#fences.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#fences[middle] ?? 0) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The first record of a held page that begins with a word of at least `wanted`. */
  #firstIn(held: number, count: number, wanted: number): number {
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#words[held * PAGE_WORDS + middle * RECORD_WORDS] ?? 0) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }

  #matches(at: number, type: BlobType): boolean {
    for (let word = 1; word < 8; word++) if (this.#words[at + word] !== this.#idWords[word]) return false
    return (this.#words[at + 8] ?? 0) >= TREE_BIT === (type === TREE)
  }

  /** Loads and verifies a page unless it is held; where it is. */
  #page(page: number): number {
    const held = page % this.#numbers.length
    if (this.#numbers[held] === page) return held
    this.#numbers[held] = -1
    const bytes = this.#bytes.subarray(held * PAGE_BYTES, (held + 1) * PAGE_BYTES)
    this.#read(bytes, page)
    this.#counts[held] = this.#verify(this.#words.subarray(held * PAGE_WORDS, (held + 1) * PAGE_WORDS), bytes, page)
    this.#numbers[held] = page
    return held
  }

  #read(into: Uint8Array, page: number): void {
    let bytes: number
    try {
      bytes = readSync(this.#file.fd, into, 0, into.length, page * PAGE_BYTES)
    } catch (error) {
      throw new DamagedRun(this.facts.name, `cannot be read at page ${page}`, { cause: error })
    }
    if (bytes !== into.length) throw new DamagedRun(this.facts.name, `ends before page ${page}`)
  }

  #verify(words: Uint32Array, bytes: Uint8Array, page: number): number {
    const count = soundPage(words, bytes, page, this.facts.nonce)
    if (count === undefined) throw new DamagedRun(this.facts.name, `is damaged in page ${page}`)
    return count
  }
}
