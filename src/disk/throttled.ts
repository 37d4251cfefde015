import { type Abortable, AgentError, type BlockSource, type Clock, type Range } from '../core/index.ts'
import { createPace, type Pace } from './pace.ts'

/**
 * Holds reading to `bytesPerSecond` over all concurrent reads. A read first waits until those before it have used up their time, so one
 * large read is never split. Listing extents is free. Owns `source`. Errors: USAGE for a rate that is not positive.
 */
export function throttled(source: BlockSource, bytesPerSecond: number, clock: Clock): BlockSource {
  if (!(bytesPerSecond > 0)) throw new AgentError('USAGE', `A rate of ${bytesPerSecond} bytes a second cannot be kept.`)
  return paced(
    source,
    createPace(() => bytesPerSecond, clock),
  )
}

/** The same by a pace that other sources share. */
export function paced(source: BlockSource, pace: Pace): BlockSource {
  return Object.freeze({
    size: source.size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      await pace.wait(into.length, options)
      await source.read(offset, into, options)
    },
    extents: (range: Range, options?: Abortable) => source.extents(range, options),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  })
}
