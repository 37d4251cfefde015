/** Blobs used last, up to a number of bytes; loads the same blob once for all who ask at the same time. */
export class BlockCache {
  readonly #limit: number
  readonly #blocks = new Map<string, Uint8Array>()
  readonly #loading = new Map<string, Promise<Uint8Array>>()
  #bytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get(name: string, load: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const known = this.#blocks.get(name)
    if (known !== undefined) {
      this.#blocks.delete(name)
      this.#blocks.set(name, known)
      return Promise.resolve(known)
    }
    // One who aborts must not spoil the load of another: only the first caller's own failure is not shared.
    const underWay = this.#loading.get(name)
    if (underWay !== undefined) return underWay.catch(() => this.get(name, load))
    const loading = load()
      .then((block) => {
        this.#keep(name, block)
        return block
      })
      .finally(() => this.#loading.delete(name))
    this.#loading.set(name, loading)
    return loading
  }

  #keep(name: string, block: Uint8Array): void {
    if (block.length > this.#limit) return
    this.#blocks.set(name, block)
    this.#bytes += block.length
    for (const [oldest, old] of this.#blocks) {
      if (this.#bytes <= this.#limit) break
      this.#blocks.delete(oldest)
      this.#bytes -= old.length
    }
  }
}
