/** Work under way whose order does not matter. Remembers the first failure; nothing it was given is left running or unhandled. */
export class InFlight {
  readonly #running = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  add(work: Promise<unknown>): void {
    const watched: Promise<void> = work.then(
      () => void this.#running.delete(watched),
      (error: unknown) => {
        this.#failure ??= { error }
        this.#running.delete(watched)
      },
    )
    this.#running.add(watched)
  }

  /** Throws the first failure, so that no more work is started after it. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Waits for everything, also after a failure. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  /** Waits for everything, then throws the first failure. */
  async done(): Promise<void> {
    await this.settled()
    this.throwIfFailed()
  }
}
