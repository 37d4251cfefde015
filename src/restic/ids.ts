import { hash } from 'node:crypto'
import { AgentError } from '../core/index.ts'

/** Bytes of an id: a SHA-256. */
export const ID_BYTES = 32
const DIGITS = Buffer.from('0123456789abcdef', 'latin1')
const HEX_ID = /^[0-9a-f]{64}$/

/** Lower-case hex of a 32-byte id. */
export const idHex = (id: Uint8Array): string => Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('hex')

/** True for 64 lower-case hex digits, the only spelling of an id in file names and JSON. */
export const isHexId = (text: unknown): text is string => typeof text === 'string' && HEX_ID.test(text)

/** The bytes of a hex id. `what` names the field in the INTEGRITY error for anything else. */
export function idBytes(hex: string, what = 'an id'): Buffer {
  if (!isHexId(hex)) throw new AgentError('INTEGRITY', `The repository holds ${what} that is not 64 lower-case hex digits.`)
  return Buffer.from(hex, 'hex')
}

/**
 * An ordered list of blob ids, packed 32 bytes each: the content of a file. A list of 16 GiB in 1 MiB blocks takes 512 KiB.
 * Made by whoever writes a file (`new BlobIds(count)`, then `set`), or read from a tree.
 */
export class BlobIds {
  readonly length: number
  readonly #bytes: Uint8Array

  /** `source` = the number of ids (all zero at first), or their packed bytes, which are not copied. */
  constructor(source: number | Uint8Array) {
    this.#bytes = typeof source === 'number' ? new Uint8Array(source * ID_BYTES) : source
    if (this.#bytes.length % ID_BYTES !== 0) throw new AgentError('INTERNAL', 'A packed id list has a length that is not a multiple of 32.')
    this.length = this.#bytes.length / ID_BYTES
  }

  /** A view of the id at `index`; valid as long as the list, changes with it. */
  at(index: number): Uint8Array {
    this.#inside(index)
    return this.#bytes.subarray(index * ID_BYTES, index * ID_BYTES + ID_BYTES)
  }

  set(index: number, id: Uint8Array): void {
    this.#inside(index)
    if (id.length !== ID_BYTES) throw new AgentError('INTERNAL', `An id of ${id.length} bytes was given; ids have 32.`)
    this.#bytes.set(id, index * ID_BYTES)
  }

  hex(index: number): string {
    return idHex(this.at(index))
  }

  /** Writes the 64 hex digits of an id as bytes, without a string in between: lists of large disks have millions. */
  writeHex(index: number, into: Uint8Array, offset: number): void {
    this.#inside(index)
    for (let byte = 0; byte < ID_BYTES; byte++) {
      const value = this.#bytes[index * ID_BYTES + byte] ?? 0
      into[offset + 2 * byte] = DIGITS[value >> 4] ?? 0
      into[offset + 2 * byte + 1] = DIGITS[value & 15] ?? 0
    }
  }

  includes(id: Uint8Array): boolean {
    for (let at = 0; at < this.#bytes.length; at += ID_BYTES) {
      // Two bytes tell nearly all ids apart.
      if (this.#bytes[at] !== id[0] || this.#bytes[at + 1] !== id[1]) continue
      if (Buffer.compare(this.#bytes.subarray(at, at + ID_BYTES), id) === 0) return true
    }
    return false
  }

  /** SHA-256 of all ids in their order, hex. */
  digest(): string {
    return hash('sha256', this.#bytes)
  }

  /** A list of its own with the same ids; the way an incremental starts from its parent's content. */
  copy(): BlobIds {
    return new BlobIds(this.#bytes.slice())
  }

  *[Symbol.iterator](): Generator<Uint8Array> {
    for (let index = 0; index < this.length; index++) yield this.at(index)
  }

  #inside(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new AgentError('INTERNAL', `The id list has ${this.length} entries; number ${index} was asked for.`)
    }
  }
}
