import type { BlobIndex } from './blob-index.ts'
import { ID_BYTES } from './ids.ts'

/**
 * The packs that an index names, each once, in the order of their ids: a pack that several index files name has several numbers in the index, and
 * one row here. 8 bytes a number and 4 a record.
 */
export class PackTable {
  /** Rows. */
  readonly count: number
  readonly #index: BlobIndex
  /** One number of each row. */
  readonly #numbers: Uint32Array
  /** The row of each number. */
  readonly #rows: Uint32Array
  readonly #records: Uint32Array
  /** Where the records of each row begin, and the end. */
  readonly #starts: Uint32Array

  constructor(index: BlobIndex) {
    this.#index = index
    const sorted = Uint32Array.from({ length: index.packCount }, (_, number) => number).sort((a, b) =>
      Buffer.compare(index.packIdView(a), index.packIdView(b)),
    )
    this.#rows = new Uint32Array(sorted.length)
    this.#numbers = new Uint32Array(sorted.length)
    let count = 0
    for (const [at, number] of sorted.entries()) {
      const last = sorted[at - 1]
      if (last === undefined || Buffer.compare(index.packIdView(last), index.packIdView(number)) !== 0) this.#numbers[count++] = number
      this.#rows[number] = count - 1
    }
    this.count = count
    this.#starts = new Uint32Array(count + 1)
    for (let record = 0; record < index.count; record++) this.#starts[this.rowOfRecord(record) + 1]! += 1
    for (let row = 0; row < count; row++) this.#starts[row + 1]! += this.#starts[row] ?? 0
    const next = this.#starts.slice()
    this.#records = new Uint32Array(index.count)
    for (let record = 0; record < index.count; record++) {
      const row = this.rowOfRecord(record)
      this.#records[next[row] ?? 0] = record
      next[row]! += 1
    }
  }

  get memoryBytes(): number {
    return this.#numbers.byteLength + this.#rows.byteLength + this.#records.byteLength + this.#starts.byteLength
  }

  /** The row of a pack's number in the index. */
  rowOfPack(number: number): number {
    return this.#rows[number] ?? 0
  }

  rowOfRecord(record: number): number {
    return this.rowOfPack(this.#index.location(record).pack)
  }

  /** A view of a pack's id. */
  id(row: number): Uint8Array {
    return this.#index.packIdView(this.#numbers[row] ?? 0)
  }

  name(row: number): string {
    return Buffer.from(this.id(row)).toString('hex')
  }

  /** The row of a pack by the name of its file; undefined when no index file names it. */
  find(name: string): number | undefined {
    const id = Buffer.from(name, 'hex')
    if (id.length !== ID_BYTES) return undefined
    let low = 0
    let high = this.count - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const order = Buffer.compare(this.id(middle), id)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  /** A view of the numbers of a pack's records, in no order. */
  records(row: number): Uint32Array {
    return this.#records.subarray(this.#starts[row], this.#starts[row + 1])
  }
}
