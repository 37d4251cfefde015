import { ID_BYTES } from './ids.ts'

/** The ids of packs by number, 32 bytes each. */
export class PackIds {
  #bytes = new Uint8Array(ID_BYTES * 64)
  #count = 0

  get count(): number {
    return this.#count
  }

  get memoryBytes(): number {
    return this.#bytes.byteLength
  }

  /** A number for a pack; its id may come later when it is being written. */
  add(id?: Uint8Array): number {
    if (this.#count * ID_BYTES === this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2)
      grown.set(this.#bytes)
      this.#bytes = grown
    }
    const pack = this.#count++
    if (id !== undefined) this.set(pack, id)
    return pack
  }

  set(pack: number, id: Uint8Array): void {
    this.#bytes.set(id, pack * ID_BYTES)
  }

  /** A view of a pack's id; valid until the next `add`. */
  view(pack: number): Uint8Array {
    return this.#bytes.subarray(pack * ID_BYTES, pack * ID_BYTES + ID_BYTES)
  }

  /** A copy of a pack's id. */
  get(pack: number): Buffer {
    return Buffer.from(this.#bytes.subarray(pack * ID_BYTES, pack * ID_BYTES + ID_BYTES))
  }
}
