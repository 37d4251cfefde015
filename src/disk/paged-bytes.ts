import { BoundedCache } from './bounded-cache.ts'
import type { ByteSource } from './byte-source.ts'

const PAGE = 64 * 1024
const PAGES = 16

/**
 * A region of a file (a grain directory of up to many MiB) read in pages of 64 KiB, of which 1 MiB at most is kept. Items must not
 * straddle pages: their size divides 64 KiB and the region is addressed in multiples of it.
 */
export class PagedBytes {
  readonly #bytes: ByteSource
  readonly #start: number
  readonly #length: number
  readonly #pages = new BoundedCache<DataView>(PAGES)
  #last: { readonly index: number; readonly view: DataView } | undefined

  constructor(bytes: ByteSource, start: number, length: number) {
    this.#bytes = bytes
    this.#start = start
    this.#length = length
  }

  /** The page holding byte `offset` of the region, and where in it. Synchronous while the same page is used again. */
  view(offset: number): { readonly view: DataView; readonly at: number } | Promise<{ readonly view: DataView; readonly at: number }> {
    const index = Math.floor(offset / PAGE)
    const at = offset - index * PAGE
    if (this.#last?.index === index) return { view: this.#last.view, at }
    return this.#pages
      .get(index, () => this.#load(index))
      .then((view) => {
        this.#last = { index, view }
        return { view, at }
      })
  }

  async #load(index: number): Promise<DataView> {
    const page = new Uint8Array(Math.min(PAGE, this.#length - index * PAGE))
    await this.#bytes.read(this.#start + index * PAGE, page)
    return new DataView(page.buffer)
  }
}
