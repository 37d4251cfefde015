/**
 * The most recently used results of an expensive load, at most `limit` of them. Callers that ask for the same key while it loads share
 * one load; a load that failed is forgotten. Not for values that must be closed.
 */
export class BoundedCache<V> {
  readonly #limit: number
  readonly #entries = new Map<number, Promise<V>>()

  constructor(limit: number) {
    this.#limit = Math.max(1, Math.floor(limit))
  }

  has(key: number): boolean {
    return this.#entries.has(key)
  }

  get(key: number, load: () => Promise<V>): Promise<V> {
    const known = this.#entries.get(key)
    if (known !== undefined) {
      this.#entries.delete(key)
      this.#entries.set(key, known)
      return known
    }
    const loading = load()
    this.#entries.set(key, loading)
    if (this.#entries.size > this.#limit) {
      const oldest = this.#entries.keys().next()
      if (oldest.done !== true) this.#entries.delete(oldest.value)
    }
    loading.catch(() => {
      if (this.#entries.get(key) === loading) this.#entries.delete(key)
    })
    return loading
  }
}
