import { ID_BYTES } from './ids.ts'
import { SEAL_OVERHEAD } from './sealing.ts'

/** Which kind of blob; the value is the type byte of an uncompressed blob in a pack header. */
export const DATA = 0
export const TREE = 1
export type BlobType = typeof DATA | typeof TREE

/** Words of a record: 8 of id, then owner (pack number or type), offset, length, uncompressed length. */
export const RECORD_WORDS = 12

/** One blob inside a pack. Lengths in bytes; `uncompressedLength` is 0 for a blob stored as it is. */
export type BlobPlace = {
  readonly type: BlobType
  readonly offset: number
  readonly length: number
  readonly uncompressedLength: number
}

/** Plain length of a blob. */
export const plainLength = ({ length, uncompressedLength }: Pick<BlobPlace, 'length' | 'uncompressedLength'>): number =>
  uncompressedLength === 0 ? length - SEAL_OVERHEAD : uncompressedLength

/** The blobs of one pack in the order they lie in it, 48 bytes each. Filled by parsers and by the pack being written. */
export class BlobRecords {
  #words = new Uint32Array(RECORD_WORDS * 16)
  #bytes = new Uint8Array(this.#words.buffer)
  #count = 0

  get count(): number {
    return this.#count
  }

  add(id: Uint8Array, place: BlobPlace): void {
    const at = this.#room() * RECORD_WORDS
    this.#bytes.set(id, at * 4)
    this.#words[at + 8] = place.type
    this.#words[at + 9] = place.offset
    this.#words[at + 10] = place.length
    this.#words[at + 11] = place.uncompressedLength
  }

  /** A view of an id; valid until the next `add`. */
  id(index: number): Uint8Array {
    return this.#bytes.subarray(index * RECORD_WORDS * 4, index * RECORD_WORDS * 4 + ID_BYTES)
  }

  place(index: number): BlobPlace {
    const at = index * RECORD_WORDS
    return {
      type: this.#words[at + 8] === TREE ? TREE : DATA,
      offset: this.#words[at + 9] ?? 0,
      length: this.#words[at + 10] ?? 0,
      uncompressedLength: this.#words[at + 11] ?? 0,
    }
  }

  clear(): void {
    this.#count = 0
  }

  #room(): number {
    if ((this.#count + 1) * RECORD_WORDS > this.#words.length) {
      const grown = new Uint32Array(this.#words.length * 2)
      grown.set(this.#words)
      this.#words = grown
      this.#bytes = new Uint8Array(grown.buffer)
    }
    return this.#count++
  }
}
