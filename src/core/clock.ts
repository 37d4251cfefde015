import { uptime } from 'node:os'
import { throwIfAborted, type Abortable } from './abort.ts'

/**
 * The only source of time and timers in the product; every other module receives one from the composition root.
 * `scripts/check.ts` refuses `Date.now`, `new Date()` without arguments, `setTimeout` and `setInterval` elsewhere.
 */
export interface Clock {
  /** Wall time; may step backwards. */
  now(): Date
  /** Milliseconds that never step backwards, for durations. */
  monotonicMs(): number
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, options?: Abortable): Promise<void>
  /** Calls `run` every `ms` until disposed; a call still under way is not overlapped. A rejection goes to `onError`. */
  every(ms: number, run: () => void | Promise<void>, onError: (error: unknown) => void): Disposable
}

/**
 * Milliseconds since the machine started, in steps of ten, the time it was suspended included; `monotonicMs` stands still meanwhile. Linux CLOCK_BOOTTIME. For who must
 * know how long others have heard nothing of this process.
 */
export const sinceBootMs = (): number => uptime() * 1000

export const systemClock: Clock = Object.freeze({
  now: () => new Date(),
  // Not `performance.now()`: the first call of it loads a module of Node's for 10 ms, in every command.
  monotonicMs: () => {
    const [seconds, nanoseconds] = process.hrtime()
    return seconds * 1e3 + nanoseconds / 1e6
  },
  sleep: (ms: number, options?: Abortable): Promise<void> =>
    new Promise((resolve, reject) => {
      try {
        throwIfAborted(options)
      } catch (error) {
        reject(error)
        return
      }
      const onAbort = (): void => {
        clearTimeout(timer)
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      }
      const timer = setTimeout(() => {
        options?.signal?.removeEventListener('abort', onAbort)
        resolve()
      }, ms)
      options?.signal?.addEventListener('abort', onAbort, { once: true })
    }),
  every: (ms: number, run: () => void | Promise<void>, onError: (error: unknown) => void): Disposable => {
    let busy = false
    const timer = setInterval(() => {
      if (busy) return
      busy = true
      Promise.resolve()
        .then(run)
        .catch(onError)
        .finally(() => {
          busy = false
        })
    }, ms)
    timer.unref()
    return { [Symbol.dispose]: () => clearInterval(timer) }
  },
})
