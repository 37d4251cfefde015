import { type Abortable, AgentError, anySignal, type Clock, type Log, throwIfAborted, type VmConfig } from '../core/index.ts'
import type { Frozen, Quiescer } from './quiescer.ts'

/** Longest freeze when nothing else is configured, ms. */
export const DEFAULT_FREEZE_LIMIT_MS = 120_000

/** Runs one call that freezes the guest, from its sending to its end, with the signal that ends it in time. */
export type Within = <T>(call: (options: Abortable) => Promise<T>) => Promise<T>

export type FreezeLimitOptions = Abortable & {
  /** By the monotonic clock. */
  readonly limitMs: number
  readonly config: VmConfig
  readonly clock: Clock
  readonly log: Log
}

/**
 * The watchdog over one attempt to quiesce one guest: what freezes it runs inside `within` or between a `watched` quiescer's freeze and thaw,
 * and is aborted with GUEST when the limit passes. It ends only what this process can reach; for the time after its death the server's
 * time-out (VMware Tools) or a timer in the guest stands, as `quiescer.ts` demands.
 */
export class FreezeLimit {
  readonly #options: FreezeLimitOptions
  readonly #controller = new AbortController()
  #exceeded: AgentError | undefined
  #frozenMs: number | undefined

  constructor(options: FreezeLimitOptions) {
    this.#options = options
  }

  /** Set once the limit has passed; the same error that the work was aborted with. */
  get exceeded(): AgentError | undefined {
    return this.#exceeded
  }

  /** How long the guest was frozen at most, ms: from the sending of the call that freezes to the end of its task, or to the thaw. */
  get frozenMs(): number | undefined {
    return this.#frozenMs
  }

  /** For calls that freeze and thaw by themselves (CreateSnapshot with VMware Tools). Used again when a call was refused as "not now". */
  readonly within: Within = async (call) => {
    using _watch = this.#start(() => undefined)
    return await call(this.#signals())
  }

  /** For calls made while a `watched` quiescer holds the guest frozen: aborted when the limit passes, but not what the limit measures. */
  readonly beside: Within = (call) => call(this.#signals())

  /** The same quiescer, thawed by force when the limit passes. One that freezes inside the snapshot call is left as it is. */
  watched(quiescer: Quiescer): Quiescer {
    if (quiescer.freezes !== 'untilThawed') return quiescer
    return { ...quiescer, freeze: (config, options) => this.#freeze(quiescer, config, options) }
  }

  async #freeze(quiescer: Quiescer, config: VmConfig, options: Parameters<Quiescer['freeze']>[1]): Promise<Frozen> {
    let frozen: Frozen | undefined
    let thawing: Promise<void> | undefined
    const thaw = (): Promise<void> => {
      thawing ??= frozen === undefined ? undefined : Promise.resolve(frozen[Symbol.asyncDispose]())
      return thawing ?? Promise.resolve()
    }
    const watch = this.#start(() => {
      thaw().catch((error: unknown) =>
        this.#options.log.error('the guest could not be thawed when its limit passed', { vm: config.vm.name, error: String(error) }),
      )
    })
    try {
      frozen = await quiescer.freeze(config, { ...options, ...this.#signals() })
      // The limit passed while the freeze itself was under way: nobody has thawed it yet.
      if (this.#exceeded !== undefined) await thaw()
      throwIfAborted(this.#signals())
    } catch (error) {
      watch[Symbol.dispose]()
      throw error
    }
    return {
      request: frozen.request,
      reached: (snapshot) => frozen.reached(snapshot),
      [Symbol.asyncDispose]: async () => {
        try {
          await thaw()
        } finally {
          watch[Symbol.dispose]()
        }
      },
    }
  }

  #signals(): Abortable {
    return { signal: anySignal(this.#controller.signal, this.#options.signal) }
  }

  #start(onExceeded: () => void): Disposable {
    const { clock, limitMs, config, log } = this.#options
    const ended = new AbortController()
    const since = clock.monotonicMs()
    const expire = async (): Promise<void> => {
      try {
        await clock.sleep(limitMs, { signal: ended.signal })
      } catch (error) {
        if (ended.signal.aborted) return
        throw error
      }
      this.#exceeded ??= tooLong(config, limitMs)
      log.warn('the guest is frozen longer than its limit; ending the freeze', { vm: config.vm.name, limitMs })
      onExceeded()
      this.#controller.abort(this.#exceeded)
    }
    void expire()
    return {
      [Symbol.dispose]: () => {
        ended.abort(new AgentError('CANCELED', 'The freeze has ended.'))
        this.#frozenMs = Math.round(clock.monotonicMs() - since)
      },
    }
  }
}

function tooLong(config: VmConfig, limitMs: number): AgentError {
  return new AgentError('GUEST', `The guest of ${config.vm.name} was frozen longer than ${limitMs / 1000} s; the snapshot was given up.`, {
    subject: config.vm.name,
    next: 'Look for what holds up VMware Tools, VSS or a freeze script in the guest, raise freezeLimit, or back it up with --quiesce none.',
  })
}
