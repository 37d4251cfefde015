import { describe, expect, it } from 'vitest'
import { AgentError, type Clock, isAgentError, systemClock } from '../core/index.ts'
import { ahead } from './ahead.ts'
import { faulty } from './faulty.ts'
import { memorySource } from './memory-source.ts'
import { retrying } from './retrying.ts'
import { throttled } from './throttled.ts'

/** Time that passes only by sleeping. */
function testClock(): Clock & { readonly slept: number[] } {
  const slept: number[] = []
  let now = 0
  return {
    ...systemClock,
    slept,
    monotonicMs: () => now,
    sleep: async (ms) => {
      slept.push(ms)
      now += ms
    },
  }
}

const image = Buffer.from(Array.from({ length: 4000 }, (_, index) => index % 251))
const extents = Array.from({ length: 40 }, (_, index) => ({ offset: index * 100, length: 100, kind: 'data' as const }))
const policy = { attempts: 4, delayMs: 100, maxDelayMs: 250 }

describe('retrying', () => {
  it('repeats a read with growing pauses until it works', async () => {
    const clock = testClock()
    const source = retrying(
      faulty(memorySource(image), ({ count }) => {
        if (count < 4) throw new AgentError('UNAVAILABLE', 'cut')
      }),
      policy,
      clock,
    )
    const into = Buffer.alloc(100)
    await source.read(50, into)
    expect(into.equals(image.subarray(50, 150))).toBe(true)
    expect(clock.slept).toEqual([100, 200, 250])
  })

  it('gives up after the last attempt with the last error, and at once when trying again cannot help', async () => {
    let count = 0
    const clock = testClock()
    const always = retrying(
      faulty(memorySource(image), () => {
        throw new AgentError('UNAVAILABLE', `cut ${++count}`)
      }),
      policy,
      clock,
    )
    await expect(always.read(0, Buffer.alloc(1))).rejects.toThrow('cut 4')
    const corrupt = retrying(
      faulty(memorySource(image), () => {
        count++
        throw new AgentError('INTEGRITY', 'bad')
      }),
      policy,
      clock,
    )
    await expect(corrupt.read(0, Buffer.alloc(1))).rejects.toThrow('bad')
    expect(count).toBe(5)
  })

  it('goes on with a listing where it broke, giving nothing twice', async () => {
    const inner = memorySource(image, extents)
    let given = 0
    const source = retrying(
      {
        size: inner.size,
        read: inner.read.bind(inner),
        async *extents(range) {
          for await (const extent of inner.extents(range)) {
            if (++given % 7 === 0) throw new AgentError('UNAVAILABLE', 'cut')
            yield extent
          }
        },
        [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
      },
      policy,
      testClock(),
    )
    const seen: number[] = []
    for await (const extent of source.extents({ offset: 0, length: 4000 })) seen.push(extent.offset)
    expect(seen).toEqual(extents.map((extent) => extent.offset))
  })
})

describe('throttled', () => {
  it('takes the time the bytes need, over concurrent reads too', async () => {
    const clock = testClock()
    const source = throttled(memorySource(image), 1000, clock)
    for (let count = 0; count < 5; count++) await source.read(0, Buffer.alloc(500))
    expect(clock.monotonicMs()).toBe(2000)
    expect(() => throttled(memorySource(image), 0, clock)).toThrow(expect.toSatisfy((error: unknown) => isAgentError(error, 'USAGE')))
  })
})

describe('ahead', () => {
  async function* numbers(): AsyncGenerator<number> {
    for (let number = 0; number < 20; number++) yield number
  }

  it('keeps the order, never has more than its depth under way and leaves nothing under way', async () => {
    let running = 0
    let most = 0
    const work = async (item: number): Promise<number> => {
      running++
      most = Math.max(most, running)
      await systemClock.sleep((item * 7) % 5)
      running--
      return item
    }
    const seen: number[] = []
    for await (const item of ahead(numbers(), 3, work)) seen.push(item)
    expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index))
    expect(most).toBe(3)
    for await (const item of ahead(numbers(), 3, work)) if (item === 4) break
    expect(running).toBe(0)
    const failing = ahead(numbers(), 3, async (item) => (item === 5 ? Promise.reject(new Error('five')) : work(item)))
    await expect(
      (async () => {
        for await (const item of failing) expect(item).toBeLessThan(5)
      })(),
    ).rejects.toThrow('five')
    expect(running).toBe(0)
  })
})
