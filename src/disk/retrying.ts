import { type Abortable, AgentError, type BlockSource, type Clock, type Extent, type Range, rangeEnd } from '../core/index.ts'

export type RetryPolicy = {
  /** Attempts in all, the first included; at least 1. */
  readonly attempts: number
  /** Pause before the second attempt, ms; doubles with each further one up to `maxDelayMs`. An error that says `now` waits this once. */
  readonly delayMs: number
  readonly maxDelayMs: number
}

/**
 * Repeats what failed with an error that says trying again can help (`retry` now or later). A listing goes on behind the last extent it
 * gave, never from the start. Owns `source`. The last error passes through unchanged.
 */
export function retrying(source: BlockSource, policy: RetryPolicy, clock: Clock): BlockSource {
  return new Retrying(source, Object.freeze({ ...policy }), clock)
}

class Retrying implements BlockSource {
  readonly size: number
  readonly #source: BlockSource
  readonly #policy: RetryPolicy
  readonly #clock: Clock

  constructor(source: BlockSource, policy: RetryPolicy, clock: Clock) {
    this.size = source.size
    this.#source = source
    this.#policy = policy
    this.#clock = clock
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#source.read(offset, into, options)
        return
      } catch (error) {
        await this.#pauseOrThrow(error, attempt, options)
      }
    }
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const end = rangeEnd(range)
    let at = range.offset
    for (let attempt = 1; ; attempt++) {
      const before = at
      try {
        for await (const extent of this.#source.extents({ offset: at, length: end - at }, options)) {
          at = rangeEnd(extent)
          yield extent
        }
        return
      } catch (error) {
        if (at > before) attempt = 1
        await this.#pauseOrThrow(error, attempt, options)
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.#source[Symbol.asyncDispose]())
  }

  async #pauseOrThrow(error: unknown, attempt: number, options?: Abortable): Promise<void> {
    const { attempts, delayMs, maxDelayMs } = this.#policy
    if (!(error instanceof AgentError) || error.retry === 'never' || attempt >= attempts) throw error
    await this.#clock.sleep(Math.min(maxDelayMs, delayMs * 2 ** (attempt - 1)), options)
  }
}
