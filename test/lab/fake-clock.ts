import { throwIfAborted, type Abortable, type Clock } from '../../src/core/index.ts'

/** A clock that a test moves. */
export class FakeClock implements Clock {
  #ms = 0
  readonly #sleepers = new Set<{ at: number; wake: () => void }>()

  now(): Date {
    return new Date(Date.UTC(2026, 0, 1) + this.#ms)
  }

  monotonicMs(): number {
    return this.#ms
  }

  sleep(ms: number, options?: Abortable): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { at: this.#ms + ms, wake: resolve }
      this.#sleepers.add(sleeper)
      options?.signal?.addEventListener('abort', () => {
        this.#sleepers.delete(sleeper)
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      })
    })
  }

  every(): Disposable {
    return { [Symbol.dispose]: () => undefined }
  }

  advance(ms: number): void {
    this.#ms += ms
    for (const sleeper of this.#sleepers) {
      if (sleeper.at > this.#ms) continue
      this.#sleepers.delete(sleeper)
      sleeper.wake()
    }
  }
}
