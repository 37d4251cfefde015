import { describe, expect, it } from 'vitest'
import { AgentError, type BlockSource, isAgentError, MIB, type Range, systemClock } from '../core/index.ts'
import { memorySource } from './memory-source.ts'
import { ReadAheadRoom } from './read-ahead-room.ts'
import { readingAhead } from './reading-ahead.ts'

const KIB = 1024
const SIZE = 24 * MIB + 700
const HOLE = { offset: 5 * MIB + 4096, length: 9 * MIB }

const image = ((): Buffer => {
  const bytes = Buffer.alloc(SIZE)
  for (let at = 0; at < SIZE; at += 4) bytes.writeUInt32LE((Math.imul(at + 1, 2_654_435_761) | 1) >>> 0, at)
  return bytes.fill(0, HOLE.offset, HOLE.offset + HOLE.length)
})()

type Watched = BlockSource & {
  /** What was asked of it, in order; which of it was canceled; how much is under way. */
  readonly asked: Range[]
  readonly canceled: Range[]
  underWay: number
  disposedWith: number | undefined
}

/** The image with its hole. `gate`: each read waits for it, unless it is canceled. */
function watched(gate: (range: Range) => Promise<void> = async () => undefined): Watched {
  const extents = [
    { offset: 0, length: HOLE.offset, kind: 'data' as const },
    { ...HOLE, kind: 'zero' as const },
    { offset: HOLE.offset + HOLE.length, length: SIZE - HOLE.offset - HOLE.length, kind: 'data' as const },
  ]
  const inner = memorySource(image, extents)
  const source: Watched = {
    size: SIZE,
    asked: [],
    canceled: [],
    underWay: 0,
    disposedWith: undefined,
    read: async (offset, into, options) => {
      const range = { offset, length: into.length }
      source.asked.push(range)
      source.underWay++
      try {
        const { promise, reject } = Promise.withResolvers<never>()
        const cancel = (): void => {
          source.canceled.push(range)
          reject(options?.signal?.reason)
        }
        options?.signal?.addEventListener('abort', cancel)
        await Promise.race([gate(range), promise])
        options?.signal?.removeEventListener('abort', cancel)
        await inner.read(offset, into, options)
      } finally {
        source.underWay--
      }
    },
    extents: (range, options) => inner.extents(range, options),
    [Symbol.asyncDispose]: async () => {
      source.disposedWith = source.underWay
    },
  }
  return source
}

/** What is given back is somebody else's at once. */
class UsedAtOnce extends ReadAheadRoom {
  override give(piece: Buffer): void {
    super.give(piece.fill(0xbb))
  }
}

/** Reads and compares. */
async function readSame(source: BlockSource, offset: number, length: number, signal?: AbortSignal): Promise<void> {
  const into = Buffer.alloc(length, 0xee)
  await source.read(offset, into, { signal })
  if (!into.equals(image.subarray(offset, offset + length))) throw new Error(`other bytes at ${offset}`)
}

const until = async (what: () => boolean): Promise<void> => {
  for (let tries = 0; !what(); tries++) {
    if (tries > 500) throw new Error('it never came to be')
    await systemClock.sleep(10)
  }
}

function seeded(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return Math.floor((state / 0x80000000) * below)
  }
}

describe('reading ahead', () => {
  it('gives the same bytes for any pattern of reads, within its memory', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = seeded(seed)
      const inner = watched(async () => {
        for (let turns = random(4); turns > 0; turns--) await Promise.resolve()
      })
      const room = new UsedAtOnce((1 + random(6)) * MIB)
      let most = 0
      {
        await using source = readingAhead(inner, room)
        // Some read forwards, with several reads under way, some jump, some turn back.
        const reader = async (): Promise<void> => {
          const step = 1 + random(random(2) === 0 ? 90_000 : 2 * MIB)
          const lanes = 1 + random(4)
          let at = random(SIZE)
          for (let reads = 0; reads < 30; ) {
            const batch = Array.from({ length: lanes }, () => {
              const length = Math.min(step, SIZE - at)
              const read = readSame(source, at, length)
              at += length
              return read
            })
            await Promise.all(batch)
            most = Math.max(most, room.takenBytes)
            reads += lanes
            if (at >= SIZE || random(12) === 0) at = random(SIZE)
          }
        }
        await Promise.all(Array.from({ length: 1 + random(5) }, reader))
      }
      expect(most).toBeLessThanOrEqual(room.mostBytes)
      expect(room.takenBytes).toBe(0)
      expect(inner.disposedWith).toBe(0)
    }
  })

  it('has a reader’s next pieces read before he asks, each byte once, and no hole', async () => {
    const inner = watched()
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    for (let at = 0; at < SIZE; at += 64 * KIB) {
      if (at >= HOLE.offset && at + 64 * KIB <= HOLE.offset + HOLE.length) continue
      await readSame(source, at, Math.min(64 * KIB, SIZE - at))
      await Promise.resolve()
    }
    // Pieces, beside the first reads, before one was there, and what lies at the edges of the hole; of some 240.
    expect(inner.asked.filter(({ length }) => length <= 64 * KIB).length).toBeLessThan(24)
    const pieces = inner.asked.filter(({ length }) => length > 64 * KIB)
    const inHole = pieces.filter(({ offset, length }) => offset >= HOLE.offset && offset + length <= HOLE.offset + HOLE.length)
    expect(inHole).toEqual([])
    const total = inner.asked.reduce((sum, { length }) => sum + length, 0)
    expect(total).toBeLessThanOrEqual(SIZE - HOLE.length + 2 * 64 * KIB)
  })

  it('has several pieces under way, more with each read, and waits for those that are not there yet', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const inner = watched(({ length }) => (length > 64 * KIB ? promise : Promise.resolve()))
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    for (let at = 0; at < 2 * 64 * KIB; at += 64 * KIB) await readSame(source, at, 64 * KIB)
    await until(() => inner.underWay === 1)
    const waiting = [2, 3, 4, 5].map((index) => readSame(source, index * 64 * KIB, 64 * KIB))
    await until(() => inner.underWay === 4)
    resolve()
    await Promise.all(waiting)
    expect(inner.asked.slice(2)).toEqual([
      { offset: 128 * KIB, length: MIB - 128 * KIB },
      ...[1, 2, 3].map((index) => ({ offset: index * MIB, length: MIB })),
    ])
  })

  it('leaves one who reads here and there alone, and one who has large reads under way', async () => {
    const inner = watched()
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    const random = seeded(7)
    const places = Array.from({ length: 6 }, (_, index) => ((index * 5) % 6) * 4 * MIB + random(MIB))
    for (const at of places) await readSame(source, at, 4096)
    expect(inner.asked.length).toBe(places.length)
    await Promise.all([0, 1, 2, 3].map((index) => readSame(source, (14 + index) * MIB + 8192, MIB)))
    expect(inner.asked.filter(({ length }) => length < 4096)).toEqual([])
    expect(inner.asked.length).toBeLessThanOrEqual(places.length + 5)
  })

  it('tells an error to who asks for those bytes, and to nobody else', async () => {
    const bad = { offset: 2 * MIB + 300 * KIB, length: 4096 }
    let refused = 0
    const inner = watched(async ({ offset, length }) => {
      if (offset >= bad.offset + bad.length || offset + length <= bad.offset) return
      refused++
      throw new AgentError('INTEGRITY', 'this block is damaged')
    })
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    const failed: number[] = []
    for (let at = 0; at < 4 * MIB; at += 64 * KIB) {
      try {
        await readSame(source, at, 64 * KIB)
      } catch (error) {
        expect(isAgentError(error, 'INTEGRITY')).toBe(true)
        failed.push(at)
      }
    }
    expect(failed).toEqual([2 * MIB + 256 * KIB])
    // It was met ahead, and again by who asked.
    expect(refused).toBeGreaterThanOrEqual(2)
  })

  it('reads by itself what somebody waited for in vain', async () => {
    const { promise, reject } = Promise.withResolvers<void>()
    const inner = watched(({ length }) => (length > 64 * KIB ? promise : Promise.resolve()))
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    for (const at of [0, 64 * KIB]) await readSame(source, at, 64 * KIB)
    await until(() => inner.underWay === 1)
    const waiting = readSame(source, 128 * KIB, 64 * KIB)
    reject(new AgentError('UNAVAILABLE', 'cut'))
    await waiting
    expect(inner.asked.at(-1)).toEqual({ offset: 128 * KIB, length: 64 * KIB })
  })

  it('says nothing of an error that nobody came to, or of extents that cannot be told', async () => {
    const inner = watched(async ({ length }) => {
      if (length > 64 * KIB) throw new AgentError('INTEGRITY', 'damaged')
    })
    {
      await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
      for (const at of [0, 64 * KIB]) await readSame(source, at, 64 * KIB)
      await until(() => inner.asked.length > 2)
    }
    const blind: BlockSource = {
      ...watched(),
      // oxlint-disable-next-line require-yield -- it fails before the first
      async *extents() {
        throw new AgentError('UNAVAILABLE', 'cut')
      },
    }
    await using source = readingAhead(blind, new ReadAheadRoom(8 * MIB))
    for (const at of [0, 64 * KIB, 128 * KIB]) await readSame(source, at, 64 * KIB)
  })

  it('cancels what was read ahead of one who has left, and gives its memory to others', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const inner = watched(({ offset, length }) => (length > 64 * KIB && offset < 5 * MIB ? promise : Promise.resolve()))
    const room = new ReadAheadRoom(2 * MIB)
    await using source = readingAhead(inner, room)
    for (let at = 0; at < 2 * 64 * KIB; at += 64 * KIB) await readSame(source, at, 64 * KIB)
    await until(() => room.takenBytes > 0)
    // He jumps, and reads on from there.
    for (let at = 15 * MIB; at < 20 * MIB; at += 64 * KIB) await readSame(source, at, 64 * KIB)
    expect(inner.canceled.map(({ offset }) => offset)).toEqual([128 * KIB])
    resolve()
  })

  it('lets go of a reader that is canceled, and of no other', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const inner = watched(({ length }) => (length > 64 * KIB ? promise : Promise.resolve()))
    await using source = readingAhead(inner, new ReadAheadRoom(8 * MIB))
    for (const at of [0, 64 * KIB]) await readSame(source, at, 64 * KIB)
    await until(() => inner.underWay === 1)
    const stop = new AbortController()
    const one = readSame(source, 128 * KIB, 64 * KIB, stop.signal)
    const other = readSame(source, 192 * KIB, 64 * KIB)
    stop.abort(new AgentError('CANCELED', 'enough'))
    await expect(one).rejects.toThrow('enough')
    resolve()
    await other
    expect(inner.canceled).toEqual([])
  })

  it('closes when what was read ahead has ended, and only then its source', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    // One that does not heed a cancel.
    const inner = watched()
    const slow: BlockSource = {
      ...inner,
      read: async (offset, into) => {
        inner.underWay++
        if (into.length > 64 * KIB) await promise
        await memorySource(image).read(offset, into)
        inner.underWay--
      },
    }
    const room = new ReadAheadRoom(8 * MIB)
    const source = readingAhead(slow, room)
    for (const at of [0, 64 * KIB]) await readSame(source, at, 64 * KIB)
    await until(() => inner.underWay === 1)
    const asked = readSame(source, 128 * KIB, 64 * KIB)
    const closed = source[Symbol.asyncDispose]()
    await systemClock.sleep(20)
    expect(inner.disposedWith).toBeUndefined()
    resolve()
    await asked
    await closed
    expect(inner.disposedWith).toBe(0)
    expect(room.takenBytes).toBe(0)
  })
})
