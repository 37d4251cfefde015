/** How many of something there ever were at once, for tests of a client's limits: open snapshots and readers of a datastore, NFC sessions. */
export class Peaks {
  readonly #now = new Map<string, number>()
  readonly #most = new Map<string, number>()

  /** There are so many now. */
  note(what: string, count: number): void {
    this.#most.set(what, Math.max(count, this.#most.get(what) ?? 0))
  }

  /** One more until disposed. */
  hold(what: string): Disposable {
    const change = (by: number): void => {
      const count = (this.#now.get(what) ?? 0) + by
      this.#now.set(what, count)
      this.note(what, count)
    }
    change(1)
    return { [Symbol.dispose]: () => change(-1) }
  }

  list(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#most)
  }
}
