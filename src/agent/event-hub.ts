import type { AgentEvent } from '../api/index.ts'
import type { Abortable } from '../core/index.ts'

/** Events kept for a listener that does not keep up; beyond them progress is dropped first, then the oldest. */
const MOST_KEPT = 10_000

/** Passes what the agent tells on to everybody who listens, and never waits for one of them. */
export class EventHub {
  readonly #listeners = new Set<(event: AgentEvent) => void>()

  tell(event: AgentEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  /** From now on, until the signal aborts. */
  async *listen({ signal }: Abortable): AsyncGenerator<AgentEvent> {
    let kept: AgentEvent[] = []
    let wake: () => void = () => undefined
    const take = (event: AgentEvent): void => {
      kept.push(event)
      if (kept.length > MOST_KEPT) kept = kept.filter(({ type }) => type !== 'progress').slice(-MOST_KEPT)
      wake()
    }
    const aborted = (): void => wake()
    this.#listeners.add(take)
    signal?.addEventListener('abort', aborted)
    try {
      for (;;) {
        if (signal?.aborted === true) return
        const next = kept.shift()
        if (next !== undefined) {
          yield next
          continue
        }
        const woken = Promise.withResolvers<void>()
        wake = woken.resolve
        await woken.promise
      }
    } finally {
      this.#listeners.delete(take)
      signal?.removeEventListener('abort', aborted)
    }
  }
}
