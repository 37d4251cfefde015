import { type Abortable, type BlockSource, type Range } from '../core/index.ts'
import type { LatencyGate, Pace } from '../disk/index.ts'
import type { Waiting } from './buckets.ts'

export type Gentleness = Waiting & {
  readonly pace: Pace | undefined
  readonly gate: LatencyGate | undefined
  /** The datastore's name, for what is told of a slow one. */
  readonly store: string
  readonly limitMs: number | undefined
}

/** A disk read no faster than a bandwidth and the latency of its datastore allow; told as a wait while the latency holds it back. Owns `source`. */
export function gently(source: BlockSource, how: Gentleness): BlockSource {
  const { pace, gate, store, limitMs, onWait } = how
  if (pace === undefined && gate === undefined) return source
  let told: Disposable | undefined
  const tell = (): void => {
    if (gate?.slowed === true && told === undefined) {
      const { medianMs } = gate.state
      told = onWait?.(`reads datastore ${store} slowly: a block takes ${Math.round(medianMs)} ms, and ${limitMs} ms are allowed`)
    } else if (gate?.slowed === false) {
      told?.[Symbol.dispose]()
      told = undefined
    }
  }
  return Object.freeze({
    size: source.size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      await pace?.wait(into.length, options)
      if (gate === undefined) return source.read(offset, into, options)
      await gate.read(() => source.read(offset, into, options), options)
      tell()
    },
    extents: (range: Range, options?: Abortable) => source.extents(range, options),
    async [Symbol.asyncDispose]() {
      told?.[Symbol.dispose]()
      await source[Symbol.asyncDispose]()
    },
  })
}
