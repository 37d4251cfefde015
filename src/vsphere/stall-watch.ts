import { type Abortable, AgentError, anySignal, type Clock, effect } from '../core/index.ts'

/**
 * Ends a transfer that stands still: `touch` at every piece, and when none came for `afterMs` the signal aborts with UNAVAILABLE. HTTP's own
 * time-outs cannot do this for an upload, whose answer is silent for hours.
 */
export class StallWatch implements Disposable {
  readonly signal: AbortSignal
  readonly #clock: Clock
  readonly #timer: Disposable
  #last: number

  constructor(clock: Clock, what: string, afterMs: number, options?: Abortable) {
    const controller = new AbortController()
    this.#clock = clock
    this.#last = clock.monotonicMs()
    this.signal = anySignal(controller.signal, options?.signal) ?? controller.signal
    this.#timer = clock.every(
      Math.max(1000, afterMs / 4),
      () => {
        if (clock.monotonicMs() - this.#last < afterMs) return
        controller.abort(new AgentError('UNAVAILABLE', `${what} stood still for ${Math.round(afterMs / 1000)} s.`))
      },
      (error) => controller.abort(error),
    )
  }

  touch(): void {
    this.#last = this.#clock.monotonicMs()
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]()
  }
}

/** Passes exactly `size` bytes through, touching the watch; throws before a byte too many leaves, and at the end when some are missing. */
export async function* exactly(body: AsyncIterable<Uint8Array>, size: number, what: string, watch: StallWatch): AsyncGenerator<Uint8Array> {
  let sent = 0
  for await (const chunk of body) {
    sent += chunk.length
    if (sent > size) throw new AgentError('INTEGRITY', `${what} has more than the ${size} bytes announced.`, { subject: what })
    watch.touch()
    await piece(chunk)
    yield chunk
    watch.touch()
  }
  if (sent !== size) throw new AgentError('INTEGRITY', `${what} has ${sent} bytes instead of the ${size} announced.`, { subject: what })
}

/** Tells that a piece of an upload is about to leave. */
export const piece = (chunk: Uint8Array): Promise<void> =>
  effect({ kind: 'upload', what: 'piece', on: `${chunk.length} bytes` }, () => Promise.resolve())
