import { AgentError, type Clock, isAgentError, type Log, throwIfAborted } from '../core/index.ts'
import type { FileKind, SaveOptions } from './backend.ts'

/** Pauses between tries: half a second doubling up to half a minute, each up to half longer by chance. ms */
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 30_000
/** restic's own patience. ms */
const PATIENCE = 15 * 60_000
/** A lock must be seen to be lost before it is stale for others, 25 minutes after its last refresh, so its files are not waited for. ms */
const LOCK_PATIENCE = 60_000
const LONGEST_LOCK_PAUSE = 5_000
/** Until the server has answered once: a name that is wrong is told soon. ms */
const FIRST_PATIENCE = 5_000
/** Longest pause that a server may ask for. ms */
const LONGEST_ASKED = 5 * 60_000

export type TriesDeps = {
  readonly clock: Clock
  readonly log: Log
  readonly random: (size: number) => Uint8Array
}

/** The server is well and asks for a pause; `afterMs` undefined = it did not say how long. */
export class BusyError extends AgentError {
  readonly afterMs: number | undefined

  constructor(message: string, afterMs: number | undefined, subject: string) {
    super('UNAVAILABLE', message, { subject, retry: 'later', next: 'The server asks for fewer requests; run the command again later.' })
    this.afterMs = afterMs
  }
}

/**
 * Does calls to a server again while their errors pass by themselves (UNAVAILABLE, unless `retry` says never), with growing pauses, for a bounded
 * time. What is thrown in the end is the error of the last try. When the server asks for a pause, everybody makes it. Calls must be safe to repeat.
 */
export class Tries {
  readonly #url: string
  readonly #deps: TriesDeps
  /** Whether the server has ever answered. */
  #reached = false
  /** Nobody asks before this, on the monotonic clock. */
  #notBefore = 0

  constructor(url: string, deps: TriesDeps) {
    this.#url = url
    this.#deps = deps
  }

  async run<T>(work: () => Promise<T>, kind: FileKind | undefined, options: SaveOptions = {}): Promise<T> {
    const { clock, log } = this.#deps
    const begun = clock.monotonicMs()
    const longest = kind === 'lock' ? LONGEST_LOCK_PAUSE : LONGEST_PAUSE
    for (let pause = FIRST_PAUSE, tries = 1; ; pause = Math.min(longest, pause * 2), tries++) {
      await this.#pauseAsked(options)
      try {
        const result = await work()
        this.#reached = true
        return result
      } catch (error) {
        throwIfAborted(options)
        if (!isAgentError(error, 'UNAVAILABLE')) this.#reached = true
        if (!passes(error) || options.lastTry?.aborted === true) throw error
        const patience = error instanceof BusyError || this.#reached ? (kind === 'lock' ? LOCK_PATIENCE : PATIENCE) : FIRST_PATIENCE
        const left = begun + patience - clock.monotonicMs()
        // A server that was silent for longer than the patience gets a second chance.
        if (left <= 0 && (tries > 1 || patience === FIRST_PATIENCE)) throw error
        const wait = Math.min(Math.max(left, FIRST_PAUSE), this.#jittered(pause))
        log.info('the repository cannot be reached now; trying again', {
          repository: this.#url,
          error: error.message,
          tries,
          pauseMs: Math.round(wait),
        })
        if (error instanceof BusyError) this.#askPause(error.afterMs ?? 0)
        await this.#sleep(wait, options, error)
      }
    }
  }

  #jittered(pause: number): number {
    const [byte = 0] = this.#deps.random(1)
    return pause * (1 + byte / 510)
  }

  #askPause(afterMs: number): void {
    this.#notBefore = Math.max(this.#notBefore, this.#deps.clock.monotonicMs() + Math.min(afterMs, LONGEST_ASKED))
  }

  async #pauseAsked(options: SaveOptions): Promise<void> {
    throwIfAborted(options)
    for (;;) {
      const left = this.#notBefore - this.#deps.clock.monotonicMs()
      if (left <= 0 || options.lastTry?.aborted === true) return
      await this.#sleep(left, options, undefined)
    }
  }

  /** Cut short, with the error of the last try, when nobody wants another one. */
  async #sleep(ms: number, options: SaveOptions, error: AgentError | undefined): Promise<void> {
    const { signal, lastTry } = options
    const stop = new AbortController()
    const give = (): void => stop.abort(lastTry?.reason)
    lastTry?.addEventListener('abort', give, { once: true })
    signal?.addEventListener('abort', give, { once: true })
    if (lastTry?.aborted === true || signal?.aborted === true) give()
    try {
      await this.#deps.clock.sleep(ms, { signal: stop.signal })
    } catch (problem) {
      throwIfAborted(options)
      if (!stop.signal.aborted) throw problem
      if (error !== undefined) throw error
    } finally {
      lastTry?.removeEventListener('abort', give)
      signal?.removeEventListener('abort', give)
    }
  }
}

const passes = (error: unknown): error is AgentError => isAgentError(error, 'UNAVAILABLE') && error.retry !== 'never'
