import { type Abortable, type Clock, throwIfAborted } from '../core/index.ts'

/** A rate that several sources keep together. */
export interface Pace {
  /** Resolves when `bytes` may be read: when those asked for before have used up their time. CANCELED while waiting. */
  wait(bytes: number, options?: Abortable): Promise<void>
}

/** `rate` is asked at each read for the bytes a second as of now; undefined = as fast as it goes. */
export function createPace(rate: () => number | undefined, clock: Clock): Pace {
  let freeAt = clock.monotonicMs()
  return Object.freeze({
    async wait(bytes: number, options?: Abortable): Promise<void> {
      throwIfAborted(options)
      const now = clock.monotonicMs()
      const start = Math.max(now, freeAt)
      const bytesPerSecond = rate()
      if (bytesPerSecond === undefined) {
        freeAt = now
        return
      }
      freeAt = start + (bytes / bytesPerSecond) * 1000
      if (start > now) await clock.sleep(start - now, options)
    },
  })
}
