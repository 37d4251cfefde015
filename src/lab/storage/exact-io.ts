import { readSync, writeSync } from 'node:fs'

/** Fills `into` from `position`; bytes past the end of the file are zeros (a redo log whose last grain was not written whole). */
export function readExactly(fd: number, position: number, into: Uint8Array): void {
  let done = 0
  while (done < into.length) {
    const count = readSync(fd, into, done, into.length - done, position + done)
    if (count === 0) {
      into.fill(0, done)
      return
    }
    done += count
  }
}

export function writeExactly(fd: number, position: number, data: Uint8Array): void {
  let done = 0
  while (done < data.length) done += writeSync(fd, data, done, data.length - done, position + done)
}

/** Pages of metadata of one file, a bounded number held, written through by their owner. */
export class PageCache {
  readonly #fd: number
  readonly #words: number
  readonly #limit: number
  readonly #pages = new Map<number, Uint32Array<ArrayBuffer>>()

  /** `bytes` of a page (a multiple of 4), and how many are held. */
  constructor(fd: number, bytes: number, limit: number) {
    this.#fd = fd
    this.#words = bytes / 4
    this.#limit = limit
  }

  /** Page at this file position, as little-endian words. The same object until it is dropped: change it, then write it out at once. */
  at(position: number): Uint32Array<ArrayBuffer> {
    const held = this.#pages.get(position)
    if (held !== undefined) {
      // Re-inserting keeps the map in order of use.
      this.#pages.delete(position)
      this.#pages.set(position, held)
      return held
    }
    const page = new Uint32Array(this.#words)
    readExactly(this.#fd, position, bytesOf(page))
    this.#keep(position, page)
    return page
  }

  /** A new page of zeros, whatever the file holds there. */
  fresh(position: number): Uint32Array<ArrayBuffer> {
    const page = new Uint32Array(this.#words)
    this.#keep(position, page)
    return page
  }

  /** Writes words `from` to `to` (exclusive) of the page at `position`. */
  store(position: number, page: Uint32Array<ArrayBuffer>, from: number, to: number): void {
    writeExactly(this.#fd, position + from * 4, bytesOf(page).subarray(from * 4, to * 4))
  }

  drop(position: number): void {
    this.#pages.delete(position)
  }

  #keep(position: number, page: Uint32Array<ArrayBuffer>): void {
    this.#pages.set(position, page)
    if (this.#pages.size <= this.#limit) return
    const oldest = this.#pages.keys().next()
    if (oldest.done !== true) this.#pages.delete(oldest.value)
  }
}

const bytesOf = (page: Uint32Array<ArrayBuffer>): Uint8Array => new Uint8Array(page.buffer, page.byteOffset, page.byteLength)
