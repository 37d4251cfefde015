import { type Abortable, type Clock, throwIfAborted } from '../core/index.ts'

/** Reads at once when nothing is wrong: as many as a reader has under way anyway. */
const MOST_READS = 32
/** Reads that a judgement looks at: at least, and at most. */
const LEAST_LOOKED = 4
const MOST_LOOKED = 16
/** Longest pause before a read when one at a time is still too much, ms. */
const LONGEST_PAUSE_MS = 1000

/** How a storage is being read. */
export type GateState = {
  /** Reads at once. */
  readonly window: number
  /** Before each read, ms. */
  readonly pauseMs: number
  /** Median of the reads last looked at, ms. */
  readonly medianMs: number
}

export type GateOptions = {
  readonly clock: Clock
  /** A median above this is too slow, ms. */
  readonly limitMs: number
  readonly most?: number | undefined
  /** Called at each change of the window or the pause. */
  readonly onChange?: ((state: GateState) => void) | undefined
}

/**
 * Lets reads of one storage through, as many at once as it bears: when the median of the last few takes longer than the limit, half as many, down to one
 * and then with a doubling pause before each; when it is below, one more, pauses first. So other users of the storage get their turn. Reads go in the order
 * they came.
 */
export class LatencyGate {
  readonly #options: GateOptions
  readonly #most: number
  readonly #waiting: (() => void)[] = []
  #underWay = 0
  #window: number
  #pauseMs = 0
  #medianMs = 0
  #looked: number[] = []

  constructor(options: GateOptions) {
    this.#options = Object.freeze({ ...options })
    this.#most = options.most ?? MOST_READS
    this.#window = this.#most
  }

  get state(): GateState {
    return { window: this.#window, pauseMs: this.#pauseMs, medianMs: this.#medianMs }
  }

  get slowed(): boolean {
    return this.#window < this.#most
  }

  /** One read through the gate; only one that succeeds is measured. CANCELED while waiting. */
  async read(work: () => Promise<void>, options?: Abortable): Promise<void> {
    const { clock } = this.#options
    throwIfAborted(options)
    if (this.#underWay < this.#window) this.#underWay++
    else await this.#wait(options)
    try {
      if (this.#pauseMs > 0) await clock.sleep(this.#pauseMs, options)
      const since = clock.monotonicMs()
      await work()
      this.#look(clock.monotonicMs() - since)
    } finally {
      this.#underWay--
      this.#letIn()
    }
  }

  #letIn(): void {
    while (this.#underWay < this.#window) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      this.#underWay++
      next()
    }
  }

  #wait(options?: Abortable): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal } = options ?? {}
      const enter = (): void => {
        signal?.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1)
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      }
      signal?.addEventListener('abort', leave, { once: true })
      this.#waiting.push(enter)
    })
  }

  #look(ms: number): void {
    this.#looked.push(ms)
    if (this.#looked.length < Math.min(MOST_LOOKED, Math.max(LEAST_LOOKED, this.#window))) return
    const sorted = this.#looked.toSorted((a, b) => a - b)
    this.#looked = []
    this.#medianMs = sorted[Math.floor(sorted.length / 2)] ?? 0
    const { limitMs, onChange } = this.#options
    const before = this.state
    if (this.#medianMs > limitMs) this.#slowDown(limitMs)
    else this.#speedUp(limitMs)
    if (before.window !== this.#window || before.pauseMs !== this.#pauseMs) onChange?.(this.state)
  }

  #slowDown(limitMs: number): void {
    if (this.#window > 1) this.#window = Math.floor(this.#window / 2)
    else this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs === 0 ? limitMs : this.#pauseMs * 2)
  }

  #speedUp(limitMs: number): void {
    if (this.#pauseMs > 0) this.#pauseMs = this.#pauseMs <= limitMs ? 0 : this.#pauseMs / 2
    else this.#window = Math.min(this.#most, this.#window + 1)
  }
}
