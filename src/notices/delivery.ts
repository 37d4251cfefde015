import { type Abortable, type Clock, isAgentError, type Log, toAgentError } from '../core/index.ts'
import type { NoticeChannel } from './channel.ts'
import { composeNotice } from './compose-notice.ts'
import type { Occurrence } from './occurrence.ts'
import type { Outbox, Waiting } from './outbox.ts'

export type NamedChannel = {
  readonly name: string
  readonly channel: NoticeChannel
  /** How long it gathers what happens before it tells it, ms; 0 = one message for each. */
  readonly gatherMs: number
  /** In which moments are shown. */
  readonly timeZone: string
}

export type DeliveryOptions = {
  readonly outbox: Outbox
  readonly channels: readonly NamedChannel[]
  readonly clock: Clock
  readonly log: Log
  readonly proxy: string
}

/** Occurrences in one notice at most. */
const MOST_TOGETHER = 500
/** After a failed attempt the next one comes so much later, doubled each time. ms */
const FIRST_PAUSE_MS = 5000
const LONGEST_PAUSE_MS = 15 * 60_000
/** What could not be told for so long is given up. ms */
export const GIVE_UP_MS = 3 * 24 * 3_600_000

/** Takes what waits in the outbox to its channels. No channel waits for another, and nobody waits for this: a backup is over when its run is. */
export class Delivery {
  readonly #options: DeliveryOptions
  #bells = new Map<string, PromiseWithResolvers<void>>()

  constructor(options: DeliveryOptions) {
    this.#options = options
    for (const { name } of options.channels) this.#bells.set(name, Promise.withResolvers())
  }

  /** Puts something into the outbox of a channel and wakes its delivery. Durable when it resolves. */
  async post(channel: string, occurrence: Occurrence): Promise<void> {
    await this.#options.outbox.add(channel, occurrence)
    this.#bells.get(channel)?.resolve()
  }

  /** Delivers until `signal` aborts; what is left then waits on disk. */
  async run({ signal }: Required<Abortable>): Promise<void> {
    await Promise.all(this.#options.channels.map((each) => this.#serve(each, signal)))
  }

  async #serve(named: NamedChannel, signal: AbortSignal | undefined): Promise<void> {
    const { clock, log } = this.#options
    let failures = 0
    while (!hasAborted(signal)) {
      try {
        this.#bells.set(named.name, Promise.withResolvers())
        const waitMs = await this.#deliverOnce(named, signal)
        failures = 0
        await this.#idle(named.name, waitMs, signal)
      } catch (error) {
        if (hasAborted(signal)) return
        const shown = toAgentError(error)
        failures++
        const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1))
        log.warn('a notice could not be delivered', { notice: named.name, error: shown.message, next: shown.next, againInMs: pauseMs })
        await sleepUntil(clock, pauseMs, signal)
      }
    }
  }

  /** Tells what is there to tell; how long to wait for the next look, undefined = until the bell. */
  async #deliverOnce({ name, channel, gatherMs, timeZone }: NamedChannel, signal: AbortSignal | undefined): Promise<number | undefined> {
    const { outbox, clock, proxy, log } = this.#options
    for (;;) {
      await outbox.giveUpBefore(name, new Date(clock.now().getTime() - GIVE_UP_MS), 'they could not be delivered for three days')
      const waiting = together(await outbox.waiting(name, gatherMs === 0 ? 1 : MOST_TOGETHER))
      const [first] = waiting
      if (first === undefined) return undefined
      const now = clock.now()
      const restMs = first.occurrence.kind === 'digest' ? 0 : Date.parse(first.occurrence.at) + gatherMs - now.getTime()
      // A clock that was set back must not hold a notice for ever.
      if (restMs > 0 && restMs <= gatherMs) return restMs
      const dropped = await outbox.dropped(name)
      const notice = composeNotice(
        waiting.map(({ occurrence }) => occurrence),
        { proxy, timeZone, at: now, dropped },
      )
      await channel.send(notice, { signal })
      await outbox.delivered(name, waiting)
      log.info('a notice was delivered', { notice: name, id: notice.id, tells: waiting.length })
    }
  }

  async #idle(name: string, waitMs: number | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { clock } = this.#options
    // Aborted while it was delivering: nobody would tell of that again.
    if (hasAborted(signal)) return
    if (waitMs !== undefined) return sleepUntil(clock, waitMs, signal)
    const aborted = Promise.withResolvers<void>()
    const stop = (): void => aborted.resolve()
    signal?.addEventListener('abort', stop, { once: true })
    await Promise.race([this.#bells.get(name)?.promise, aborted.promise])
    signal?.removeEventListener('abort', stop)
  }
}

/** A digest is a notice of its own; runs before it go together. */
function together(waiting: readonly Waiting[]): readonly Waiting[] {
  const digest = waiting.findIndex(({ occurrence }) => occurrence.kind === 'digest')
  if (digest === 0) return waiting.slice(0, 1)
  return digest < 0 ? waiting : waiting.slice(0, digest)
}

async function sleepUntil(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (hasAborted(signal)) return
  try {
    await clock.sleep(ms, { signal })
  } catch (error) {
    if (!hasAborted(signal) && !isAgentError(error, 'CANCELED')) throw error
  }
}

const hasAborted = (signal: AbortSignal | undefined): boolean => signal?.aborted === true
