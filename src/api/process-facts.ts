import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Clock } from '../core/index.ts'
import type { ProcessFacts } from './metrics.ts'

const WINDOW_MS = 60_000
/** How finely the delay is measured, ms. */
const RESOLUTION_MS = 10

/** Watches this process for as long as it is open. */
export class ProcessWatch implements Disposable {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  readonly #turns: Disposable
  #last: ProcessFacts['loopDelay'] | undefined

  constructor(clock: Clock) {
    this.#histogram.enable()
    const turn = (): void => {
      this.#last = this.#read()
      this.#histogram.reset()
    }
    this.#turns = clock.every(WINDOW_MS, turn, turn)
  }

  facts(): ProcessFacts {
    const { rss, heapUsed } = process.memoryUsage()
    const { user, system } = process.cpuUsage()
    return {
      residentBytes: rss,
      heapBytes: heapUsed,
      cpuSeconds: (user + system) / 1e6,
      uptimeSeconds: process.uptime(),
      loopDelay: this.#last ?? this.#read(),
    }
  }

  [Symbol.dispose](): void {
    this.#turns[Symbol.dispose]()
    this.#histogram.disable()
  }

  /** Beyond the resolution of the measurement itself, seconds. */
  #read(): ProcessFacts['loopDelay'] {
    const over = (ns: number): number => (Number.isFinite(ns) ? Math.max(0, ns / 1e9 - RESOLUTION_MS / 1000) : 0)
    const { mean, max } = this.#histogram
    return { mean: over(mean), p50: over(this.#histogram.percentile(50)), p99: over(this.#histogram.percentile(99)), max: over(max) }
  }
}
