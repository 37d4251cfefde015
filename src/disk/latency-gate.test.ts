import { describe, expect, it } from 'vitest'
import { AgentError, type Clock } from '../core/index.ts'
import { type GateState, LatencyGate } from './latency-gate.ts'

const LIMIT = 20

/** Time that passes only by sleeping, for all sleepers together. */
class StoryClock implements Clock {
  #now = 0
  readonly #sleepers: { readonly at: number; readonly wake: () => void }[] = []

  now(): Date {
    return new Date(this.#now)
  }

  every(): Disposable {
    return { [Symbol.dispose]: () => undefined }
  }

  monotonicMs(): number {
    return this.#now
  }

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ at: this.#now + ms, wake }))
  }

  /** Lets the sleepers wake in their order until nobody sleeps. */
  async run(): Promise<void> {
    for (;;) {
      for (let turn = 0; turn < 50; turn++) await Promise.resolve()
      this.#sleepers.sort((a, b) => a.at - b.at)
      const next = this.#sleepers.shift()
      if (next === undefined) return
      this.#now = Math.max(this.#now, next.at)
      next.wake()
    }
  }
}

/** Readers that always have a read to make, against a storage that takes `latency(reads under way)` ms. */
async function readAll(clock: StoryClock, gate: LatencyGate, reads: number, latency: (underWay: number) => number): Promise<number> {
  let underWay = 0
  let peak = 0
  const all = Array.from({ length: reads }, () =>
    gate.read(async () => {
      peak = Math.max(peak, ++underWay)
      await clock.sleep(latency(underWay))
      underWay--
    }),
  )
  await clock.run()
  await Promise.all(all)
  return peak
}

describe('a gate by latency', () => {
  it('lets everything through while the storage is quick', async () => {
    const clock = new StoryClock()
    const gate = new LatencyGate({ clock, limitMs: LIMIT, most: 8 })
    expect(await readAll(clock, gate, 200, () => 5)).toBe(8)
    expect(gate.state).toEqual({ window: 8, pauseMs: 0, medianMs: 5 })
    expect(gate.slowed).toBe(false)
  })

  it('goes down to one read and then pauses while it is slow, and comes back when it is quick again', async () => {
    const clock = new StoryClock()
    const seen: GateState[] = []
    const gate = new LatencyGate({ clock, limitMs: LIMIT, most: 8, onChange: (state) => seen.push(state) })
    await readAll(clock, gate, 100, () => 60)
    expect(seen.slice(0, 5).map(({ window, pauseMs }) => [window, pauseMs])).toEqual([
      [4, 0],
      [2, 0],
      [1, 0],
      [1, 20],
      [1, 40],
    ])
    expect(gate.state).toMatchObject({ window: 1, pauseMs: 1000, medianMs: 60 })
    const turned = seen.length
    await readAll(clock, gate, 300, () => 2)
    expect(seen.slice(turned).map(({ pauseMs }) => pauseMs)).toEqual(expect.arrayContaining([500, 0]))
    expect(gate.state).toEqual({ window: 8, pauseMs: 0, medianMs: 2 })
  })

  it('settles at what a storage bears that grows slower with each reader', async () => {
    const clock = new StoryClock()
    const gate = new LatencyGate({ clock, limitMs: LIMIT, most: 32 })
    await readAll(clock, gate, 2000, (underWay) => underWay * 4)
    // Five at a time take 20 ms.
    expect(gate.state.window).toBeGreaterThanOrEqual(2)
    expect(gate.state.window).toBeLessThanOrEqual(7)
    expect(gate.state.pauseMs).toBe(0)
  })

  it('one who gives up leaves the queue, and a read that fails gives its place on', async () => {
    const clock = new StoryClock()
    const gate = new LatencyGate({ clock, limitMs: LIMIT, most: 1 })
    const first = Promise.withResolvers<void>()
    const reading = gate.read(() => first.promise)
    const gone = new AbortController()
    const waiting = gate.read(() => Promise.resolve(), { signal: gone.signal })
    let done = false
    const last = gate.read(async () => {
      done = true
    })
    gone.abort(new AgentError('CANCELED', 'gone'))
    await expect(waiting).rejects.toThrow('gone')
    expect(done).toBe(false)
    first.reject(new AgentError('UNAVAILABLE', 'cut'))
    await expect(reading).rejects.toThrow('cut')
    await last
    expect(done).toBe(true)
  })
})
