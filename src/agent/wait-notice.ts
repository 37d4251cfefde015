import { type Clock, type Log, toAgentError } from '../core/index.ts'

/** A wait that is over sooner is nobody's concern, ms. */
const MOMENT_MS = 1000

export type WaitNotice = {
  /** Called with what is waited for, and with undefined when nothing is any more. */
  readonly tell: (wait: string | undefined) => void | Promise<void>
  readonly clock: Clock
  readonly log: Log
}

/** Tells of waits that last longer than a moment; of several at once the last one begun. What `tell` throws goes to the log. */
export function noticeWaits({ tell, clock, log }: WaitNotice): (wait: string) => Disposable {
  const lasting = new Map<symbol, string>()
  let telling = Promise.resolve()
  const retell = (): void => {
    const wait = [...lasting.values()].at(-1)
    telling = telling
      .then(() => tell(wait))
      .catch((error: unknown) => log.warn('a wait could not be shown', { error: toAgentError(error).message }))
  }
  return (wait) => {
    const id = Symbol(wait)
    const over = new AbortController()
    const last = async (): Promise<void> => {
      try {
        await clock.sleep(MOMENT_MS, { signal: over.signal })
      } catch {
        // It was over within the moment.
        return
      }
      lasting.set(id, wait)
      retell()
    }
    void last()
    return {
      [Symbol.dispose]: () => {
        over.abort()
        if (lasting.delete(id)) retell()
      },
    }
  }
}
