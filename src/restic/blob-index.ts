import { AgentError } from '../core/index.ts'
import { type BlobPlace, type BlobType, DATA, RECORD_WORDS, TREE } from './blob-records.ts'
import { ID_BYTES } from './ids.ts'
import { PackIds } from './pack-ids.ts'

/** Records of one chunk: 3 MiB. */
const CHUNK_RECORDS = 65_536
const FIRST_SLOTS = 1024
/** Two numbers that make one of a double: the first word of an id, and which record it is of. */
const SORTED_AT_ONCE = 2 ** 21
const TREE_BIT = 0x8000_0000

/** Where a blob lies. `pack` is a number of this index. */
export type BlobLocation = BlobPlace & { readonly pack: number }

/**
 * Which blob lies where: 48 bytes a blob in chunks that never move, found through an open-addressing table of record numbers.
 * 53 to 58 bytes a blob in all, no object or string for any of them; a look-up costs less than a microsecond. Ids are digests, so their
 * first word is the hash. A blob that lies in several packs has several records.
 */
export class BlobIndex {
  readonly #chunks: Uint32Array[] = []
  #table = new Uint32Array(FIRST_SLOTS)
  #count = 0
  readonly #packs: PackIds
  readonly #idWords = new Uint32Array(8)
  readonly #idBytes = new Uint8Array(this.#idWords.buffer)

  /** `packs`: those of an index that this one goes on from. */
  constructor(packs = new PackIds()) {
    this.#packs = packs
  }

  /** Records, copies counted. */
  get count(): number {
    return this.#count
  }

  get packCount(): number {
    return this.#packs.count
  }

  /** Bytes that the index holds. */
  get memoryBytes(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.byteLength, this.#table.byteLength + this.#packs.memoryBytes)
  }

  /** A number for a pack; `id` may come later when the pack is being written. */
  addPack(id?: Uint8Array): number {
    return this.#packs.add(id)
  }

  setPackId(pack: number, id: Uint8Array): void {
    this.#packs.set(pack, id)
  }

  /** A copy of a pack's id. */
  packId(pack: number): Buffer {
    return this.#packs.get(pack)
  }

  /** Adds a blob. The same blob at the same place of the same pack (an index file that repeats another) is taken once. */
  add(id: Uint8Array, place: BlobPlace, pack: number): void {
    if ((this.#count + 1) * 5 > this.#table.length * 4) this.#grow()
    this.#idBytes.set(id)
    const mask = this.#table.length - 1
    let slot = this.#hash() & mask
    for (let entry = this.#table[slot]; entry !== undefined && entry !== 0; entry = this.#table[slot]) {
      if (this.#matches(entry - 1, place.type) && this.#samePlace(entry - 1, place, pack)) return
      slot = (slot + 1) & mask
    }
    const record = this.#count++
    if (record >= 0xffff_fffe) throw new AgentError('CAPACITY', 'The repository holds more blobs than this index can address.')
    const chunk = this.#chunk(record)
    const at = (record % CHUNK_RECORDS) * RECORD_WORDS
    chunk.set(this.#idWords, at)
    chunk[at + 8] = (pack | (place.type === TREE ? TREE_BIT : 0)) >>> 0
    chunk[at + 9] = place.offset
    chunk[at + 10] = place.length
    chunk[at + 11] = place.uncompressedLength
    this.#table[slot] = record + 1
  }

  /** The first place known of a blob; undefined when there is none. */
  find(type: BlobType, id: Uint8Array): BlobLocation | undefined {
    const number = this.numberOf(type, id)
    return number === undefined ? undefined : this.#location(number)
  }

  /** Every place of a blob. */
  findAll(type: BlobType, id: Uint8Array): readonly BlobLocation[] {
    return this.numbersOf(type, id).map((number) => this.#location(number))
  }

  has(type: BlobType, id: Uint8Array): boolean {
    return this.numberOf(type, id) !== undefined
  }

  /** The number of the first record of a blob, the same for all its copies; undefined when there is none. */
  numberOf(type: BlobType, id: Uint8Array): number | undefined {
    this.#idBytes.set(id)
    const mask = this.#table.length - 1
    let slot = this.#hash() & mask
    for (let entry = this.#table[slot]; entry !== undefined && entry !== 0; entry = this.#table[slot]) {
      if (this.#matches(entry - 1, type)) return entry - 1
      slot = (slot + 1) & mask
    }
    return undefined
  }

  /** The numbers of all records of a blob, its first one first. */
  numbersOf(type: BlobType, id: Uint8Array): readonly number[] {
    const found: number[] = []
    this.#idBytes.set(id)
    const mask = this.#table.length - 1
    let slot = this.#hash() & mask
    for (let entry = this.#table[slot]; entry !== undefined && entry !== 0; entry = this.#table[slot]) {
      if (this.#matches(entry - 1, type)) found.push(entry - 1)
      slot = (slot + 1) & mask
    }
    return found
  }

  /** The place of a record of a number below `count`. */
  location(number: number): BlobLocation {
    return this.#location(number)
  }

  /** A view of a record's id. */
  idOf(number: number): Uint8Array {
    return new Uint8Array(this.#chunk(number).buffer, (number % CHUNK_RECORDS) * RECORD_WORDS * 4, ID_BYTES)
  }

  /** A view of a pack's id; valid until the next `addPack`. */
  packIdView(pack: number): Uint8Array {
    return this.#packs.view(pack)
  }

  /** The record of a number below `count`: its id (a copy) and place. */
  record(number: number): { readonly id: Buffer; readonly location: BlobLocation } {
    const chunk = this.#chunk(number)
    const at = (number % CHUNK_RECORDS) * RECORD_WORDS
    return { id: Buffer.from(new Uint8Array(chunk.buffer, at * 4, ID_BYTES)), location: this.#location(number) }
  }

  /** Record numbers in the order of their packs, and where each pack's run begins (one more entry than packs). For checks; 4 bytes a blob. */
  byPack(): { readonly records: Uint32Array; readonly starts: Uint32Array } {
    const starts = new Uint32Array(this.packCount + 1)
    for (let record = 0; record < this.#count; record++) starts[this.#location(record).pack + 1]! += 1
    for (let pack = 0; pack < this.packCount; pack++) starts[pack + 1]! += starts[pack] ?? 0
    const next = starts.slice()
    const records = new Uint32Array(this.#count)
    for (let record = 0; record < this.#count; record++) {
      const { pack } = this.#location(record)
      records[next[pack] ?? 0] = record
      next[pack]! += 1
    }
    return { records, starts }
  }

  /** Copies the 12 words of a record to `at` of `into`. */
  copyRecord(record: number, into: Uint32Array, at: number): void {
    const from = (record % CHUNK_RECORDS) * RECORD_WORDS
    const chunk = this.#chunk(record)
    for (let word = 0; word < RECORD_WORDS; word++) into[at + word] = chunk[from + word] ?? 0
  }

  /** Numbers of the records whose pack is wanted, in ascending order of the words of their ids. At most 2,097,152 records. */
  sorted(wanted: (pack: number) => boolean): Uint32Array {
    if (this.#count > SORTED_AT_ONCE) throw new AgentError('INTERNAL', `${this.#count} records are too many to be sorted at once.`)
    const keys = new Float64Array(this.#count)
    let count = 0
    for (let record = 0; record < this.#count; record++) {
      const chunk = this.#chunk(record)
      const at = (record % CHUNK_RECORDS) * RECORD_WORDS
      if (wanted((chunk[at + 8] ?? 0) % TREE_BIT)) keys[count++] = (chunk[at] ?? 0) * SORTED_AT_ONCE + record
    }
    const order = Uint32Array.from(keys.subarray(0, count).sort(), (key) => key % SORTED_AT_ONCE)
    // Few ids share their first word, so that neighbours out of order are rare and near.
    for (let index = 1; index < count; index++) {
      for (let at = index; at > 0 && this.#after(order[at - 1] ?? 0, order[at] ?? 0); at--) {
        const before = order[at - 1] ?? 0
        order[at - 1] = order[at] ?? 0
        order[at] = before
      }
    }
    return order
  }

  /** Whether the id of a record comes after that of another. */
  #after(record: number, other: number): boolean {
    const [a, b] = [this.#chunk(record), this.#chunk(other)]
    const [from, to] = [(record % CHUNK_RECORDS) * RECORD_WORDS, (other % CHUNK_RECORDS) * RECORD_WORDS]
    for (let word = 0; word < 8; word++) {
      const difference = (a[from + word] ?? 0) - (b[to + word] ?? 0)
      if (difference !== 0) return difference > 0
    }
    return false
  }

  #location(record: number): BlobLocation {
    const chunk = this.#chunk(record)
    const at = (record % CHUNK_RECORDS) * RECORD_WORDS
    const owner = chunk[at + 8] ?? 0
    return {
      type: owner >= TREE_BIT ? TREE : DATA,
      pack: owner % TREE_BIT,
      offset: chunk[at + 9] ?? 0,
      length: chunk[at + 10] ?? 0,
      uncompressedLength: chunk[at + 11] ?? 0,
    }
  }

  #samePlace(record: number, place: BlobPlace, pack: number): boolean {
    const other = this.#location(record)
    if (other.offset !== place.offset || other.length !== place.length) return false
    return other.pack === pack || Buffer.compare(this.packId(other.pack), this.packId(pack)) === 0
  }

  #matches(record: number, type: BlobType): boolean {
    const chunk = this.#chunk(record)
    const at = (record % CHUNK_RECORDS) * RECORD_WORDS
    const words = this.#idWords
    return (
      chunk[at] === words[0] &&
      chunk[at + 1] === words[1] &&
      chunk[at + 2] === words[2] &&
      chunk[at + 3] === words[3] &&
      chunk[at + 4] === words[4] &&
      chunk[at + 5] === words[5] &&
      chunk[at + 6] === words[6] &&
      chunk[at + 7] === words[7] &&
      (chunk[at + 8] ?? 0) >= TREE_BIT === (type === TREE)
    )
  }

  #hash(): number {
    return this.#idWords[0] ?? 0
  }

  #chunk(record: number): Uint32Array {
    const number = Math.floor(record / CHUNK_RECORDS)
    const chunk = this.#chunks[number]
    if (chunk !== undefined) return chunk
    const fresh = new Uint32Array(CHUNK_RECORDS * RECORD_WORDS)
    this.#chunks[number] = fresh
    return fresh
  }

  #grow(): void {
    const table = new Uint32Array(this.#table.length * 2)
    const mask = table.length - 1
    for (let record = 0; record < this.#count; record++) {
      const chunk = this.#chunk(record)
      let slot = (chunk[(record % CHUNK_RECORDS) * RECORD_WORDS] ?? 0) & mask
      while (table[slot] !== 0) slot = (slot + 1) & mask
      table[slot] = record + 1
    }
    this.#table = table
  }
}
