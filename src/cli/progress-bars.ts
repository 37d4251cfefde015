import { MultiBar, type SingleBar } from 'cli-progress'
import { type Clock, formatBytes } from '../core/index.ts'
import { printable } from './io.ts'
import type { Progress } from './progress.ts'

/** A bar for each thing, on standard error. */
export class ProgressBars implements Progress {
  readonly #clock: Clock
  readonly #bars = new MultiBar({
    format: '{name} {bar} {percentage}%  {done}/{size}  {rate}/s  ETA {left}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    barsize: 24,
    fps: 5,
  })
  readonly #open = new Map<string, { bar: SingleBar; startedMs: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  update(name: string, done: number, total: number): void {
    let entry = this.#open.get(name)
    if (entry === undefined) {
      entry = { bar: this.#bars.create(Math.max(total, 1), 0, this.#fields(name, 0, total, 0)), startedMs: this.#clock.monotonicMs() }
      this.#open.set(name, entry)
    }
    entry.bar.setTotal(Math.max(total, 1))
    entry.bar.update(done, this.#fields(name, done, total, (this.#clock.monotonicMs() - entry.startedMs) / 1000))
  }

  finish(name: string): void {
    const entry = this.#open.get(name)
    if (entry === undefined) return
    entry.bar.stop()
    this.#bars.remove(entry.bar)
    this.#open.delete(name)
  }

  wait(name: string, wait: string | undefined): void {
    this.#bars.log(`${printable(name)} ${printable(wait ?? 'goes on')}\n`)
  }

  #fields(name: string, done: number, total: number, seconds: number): Record<string, string> {
    const rate = seconds > 0 ? done / seconds : 0
    const left = rate > 0 ? Math.ceil((total - done) / rate) : undefined
    return {
      name: printable(name),
      done: formatBytes(done),
      size: formatBytes(total),
      rate: formatBytes(rate),
      left: left === undefined ? '-' : left > 90 ? `${Math.ceil(left / 60)} min` : `${left} s`,
    }
  }

  [Symbol.dispose](): void {
    this.#bars.stop()
  }
}
