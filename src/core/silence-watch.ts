import type { Clock } from './clock.ts'

const LOOK_EVERY = 1000

/** How long the other side of a conversation has said nothing. `look` gets it every second, ms, and decides whether that is too long. */
export class SilenceWatch implements Disposable {
  readonly #clock: Clock
  readonly #timer: Disposable
  #heardAt: number

  constructor(clock: Clock, look: (silentMs: number) => void, onError: (error: unknown) => void) {
    this.#clock = clock
    this.#heardAt = clock.monotonicMs()
    this.#timer = clock.every(LOOK_EVERY, () => look(clock.monotonicMs() - this.#heardAt), onError)
  }

  /** Something came, or something was asked after nothing was: the silence begins anew. */
  heard(): void {
    this.#heardAt = this.#clock.monotonicMs()
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]()
  }
}
