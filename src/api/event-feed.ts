import { type Abortable, type Clock, type Log, throwIfAborted, toAgentError } from '../core/index.ts'
import type { AgentFeed } from './agent-control.ts'
import type { AgentEvent } from './event-view.ts'

/** Events that one who comes back can still be told. */
const REMEMBERED = 2000
/** Pause before a source that failed is asked again, ms. */
const AGAIN_MS = 1000

/** Progress has no id: it is told once and not remembered, since the next one says more. */
export type FedEvent = { readonly id: string | undefined; readonly event: AgentEvent }
/** Must not wait: whoever cannot take it now leaves it out. */
export type Listener = (fed: FedEvent | 'missed') => void

export type FeedDeps = { readonly clock: Clock; readonly log: Log; readonly epoch: string }

/** The agent's events for many who listen: taken from it once, numbered, the last of them remembered. Bounded however many come. */
export class EventFeed implements AsyncDisposable {
  readonly #deps: FeedDeps
  readonly #ended = new AbortController()
  readonly #listeners = new Set<Listener>()
  readonly #remembered: FedEvent[] = []
  readonly #running: Promise<void>
  #count = 0

  /** `epoch` differs after every start, as the numbers begin anew. */
  constructor(source: Pick<AgentFeed, 'events'>, deps: FeedDeps) {
    this.#deps = deps
    this.#running = this.#run(source, { signal: this.#ended.signal })
  }

  /**
   * Tells `listener` everything from now on, and before that what came after the event `after`; before that `missed`, when some of it is not remembered any
   * more, or `after` is of an earlier start.
   */
  listen(listener: Listener, after?: string): Disposable {
    const since = after === undefined ? this.#count : this.#numberOf(after)
    const oldest = this.#count - this.#remembered.length
    if (since === undefined || since < oldest) listener('missed')
    for (const fed of this.#remembered.slice(Math.max(0, (since ?? 0) - oldest))) listener(fed)
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort()
    this.#listeners.clear()
    await this.#running
  }

  async #run(source: Pick<AgentFeed, 'events'>, options: Required<Abortable>): Promise<void> {
    const { clock, log } = this.#deps
    while (!this.#ended.signal.aborted) {
      try {
        for await (const event of source.events(options)) this.#tell(event)
        throwIfAborted(options)
        await clock.sleep(AGAIN_MS, options)
      } catch (error) {
        if (this.#ended.signal.aborted) return
        log.error('the events of the agent broke off and are taken up again', { error: toAgentError(error).message })
        await clock.sleep(AGAIN_MS, options).catch(() => undefined) // ended meanwhile
      }
    }
  }

  #tell(event: AgentEvent): void {
    const fed: FedEvent = { id: event.type === 'progress' ? undefined : `${this.#deps.epoch}-${++this.#count}`, event }
    if (fed.id !== undefined) {
      this.#remembered.push(fed)
      if (this.#remembered.length > REMEMBERED) this.#remembered.shift()
    }
    for (const listener of this.#listeners) {
      try {
        listener(fed)
      } catch (error) {
        this.#deps.log.error('an event could not be told', { error: toAgentError(error).message })
      }
    }
  }

  #numberOf(id: string): number | undefined {
    const [, epoch, number] = /^([0-9a-f]{1,32})-(\d{1,15})$/.exec(id) ?? []
    const at = Number(number)
    return epoch === this.#deps.epoch && at <= this.#count ? at : undefined
  }
}
