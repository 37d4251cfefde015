import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, type BlockSink, type BlockSource, MIB, systemClock } from '../core/index.ts'
import { faulty } from './faulty.ts'
import { fillDisk } from './fill-disk.ts'
import { memorySource } from './memory-source.ts'
import { noticing } from './noticing.ts'

/** A sink in memory that remembers each write, and how many were under way at once. */
function memorySink(size: number, onWrite: (count: number) => Promise<void> | void = () => undefined) {
  const image = Buffer.alloc(size)
  const writes: { offset: number; length: number }[] = []
  let underWay = 0
  let most = 0
  const sink: BlockSink = {
    size,
    async write(offset, data) {
      writes.push({ offset, length: data.length })
      most = Math.max(most, ++underWay)
      try {
        await Promise.resolve()
        await onWrite(writes.length)
        image.set(data, offset)
      } finally {
        underWay--
      }
    },
    zero: () => Promise.reject(new Error('nothing is zeroed')),
    flush: () => Promise.reject(new Error('nothing is flushed')),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
  return { sink, image, writes, most: () => most }
}

const KIB = 1024
const source = (image: Uint8Array): BlockSource => memorySource(image)

describe('fillDisk', () => {
  it('writes what is not zero and nothing else, several chunks at once', async () => {
    const image = Buffer.alloc(24 * MIB + 3 * KIB)
    image.fill(1, 64 * KIB, 128 * KIB)
    image.fill(2, 5 * MIB, 20 * MIB)
    image.fill(0, 7 * MIB, 8 * MIB)
    image[image.length - 1] = 3
    const { sink, image: made, writes, most } = memorySink(image.length, () => systemClock.sleep(1))
    const { end, written } = await fillDisk(source(image), sink, 0)
    expect(made.equals(image)).toBe(true)
    expect([end, written]).toEqual([image.length, 64 * KIB + 14 * MIB + 3 * KIB])
    expect(writes.reduce((sum, { length }) => sum + length, 0)).toBe(written)
    expect(most()).toBeGreaterThan(1)
    expect(most()).toBeLessThanOrEqual(8)
  })

  it('ends at its limit at a place from which it goes on', async () => {
    const image = Buffer.alloc(10 * MIB, 7)
    const { sink, image: made } = memorySink(image.length)
    const ends: number[] = []
    for (let at = 0; at < image.length; ) {
      const { end } = await fillDisk(source(image), sink, at, { limit: 3 * MIB })
      expect(made.subarray(0, end).equals(image.subarray(0, end))).toBe(true)
      ends.push(end)
      at = end
    }
    expect(ends.at(-1)).toBe(image.length)
    expect(ends.length).toBeGreaterThan(1)
  })

  it('any image comes out the same (property)', async () => {
    const piece = fc.record({ length: fc.integer({ min: 1, max: 200_000 }), fill: fc.constantFrom(0, 0, 9) })
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 30 }), fc.constantFrom(undefined, 1, 100_000), async (pieces, limit) => {
        const image = Buffer.concat(pieces.map(({ length, fill }) => Buffer.alloc(length, fill)))
        const { sink, image: made } = memorySink(image.length)
        for (let at = 0; at < image.length; ) at = (await fillDisk(source(image), sink, at, { limit })).end
        expect(made.equals(image)).toBe(true)
      }),
      { seed: 21, numRuns: 60 },
    )
  })

  it('throws the error that says most of those of writes under way, and leaves none under way', async () => {
    let open = 0
    const { sink } = memorySink(8 * MIB, async (count) => {
      open++
      await Promise.resolve()
      open--
      if (count === 3) throw new AgentError('CAPACITY', 'full')
      if (count > 1) throw new AgentError('UNAVAILABLE', 'gone')
    })
    await expect(fillDisk(source(Buffer.alloc(8 * MIB, 1)), sink, 0)).rejects.toMatchObject({ code: 'CAPACITY' })
    expect(open).toBe(0)
  })

  it('passes an error of the source on, which noticing tells from those of the sink', async () => {
    const seen: unknown[] = []
    const broken = faulty(source(Buffer.alloc(4 * MIB, 1)), (call) => {
      if (call.kind === 'read' && call.range.offset >= 2 * MIB) throw new AgentError('UNAVAILABLE', 'the repository is away')
    })
    const { sink } = memorySink(4 * MIB)
    await expect(
      fillDisk(
        noticing(broken, (error) => seen.push(error)),
        sink,
        0,
      ),
    ).rejects.toThrow('the repository is away')
    expect(seen.length).toBeGreaterThan(0)
    seen.length = 0
    const full = memorySink(4 * MIB, () => Promise.reject(new AgentError('CAPACITY', 'full')))
    await expect(
      fillDisk(
        noticing(source(Buffer.alloc(4 * MIB, 1)), (error) => seen.push(error)),
        full.sink,
        0,
      ),
    ).rejects.toThrow('full')
    expect(seen).toEqual([])
  })
})
