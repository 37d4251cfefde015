import fc from 'fast-check'
import { expect, it } from 'vitest'
import { neighbours, type Opening, OpeningQueue } from './opening-queue.ts'
import type { PackedBlob } from './packed-blob.ts'

const ROOM = 1024 * 1024
const blobAt = (offset: number, length = 1000, uncompressedLength = 4096): PackedBlob => ({
  id: new Uint8Array(32),
  offset,
  length,
  uncompressedLength,
})

function opening(
  offset: number,
  { pack = 'a', signal, length = 1000, plain = 4096 }: Partial<{ pack: string; signal: AbortSignal; length: number; plain: number }> = {},
): Opening {
  const blob = { ...blobAt(offset, length, plain), into: new Uint8Array(plain) }
  return { pack, blobs: [blob], signal, resolve: () => undefined, reject: () => undefined }
}

function queueOf(...openings: readonly Opening[]): OpeningQueue {
  const queue = new OpeningQueue(ROOM)
  for (const each of openings) queue.add(each)
  return queue
}

it('takes what lies on both sides, four in all, in the order of the pack', () => {
  const all = [3000, 1000, 0, 2000, 5000, 4000].map((offset) => opening(offset))
  const [at3, at1, at0, at2, at5, at4] = all as [Opening, Opening, Opening, Opening, Opening, Opening]
  const queue = queueOf(...all)
  expect(queue.take(at3)).toEqual([at2, at3, at4, at5])
  for (const gone of [at2, at3, at4, at5]) expect([queue.take(gone), queue.drop(gone)]).toEqual([[], false])
  expect(queue.drop(at0)).toBe(true)
  expect(queue.take(at1)).toEqual([at1])
})

it('leaves alone what is far, overlaps, is of another pack, may end before, or does not fit', () => {
  const mine = opening(1_000_000)
  const others = [
    opening(1_000_000),
    opening(1_000_500),
    opening(1_001_000 + 64 * 1024 + 1),
    opening(1_001_000, { pack: 'b' }),
    opening(1_001_000, { signal: new AbortController().signal }),
    opening(999_000, { plain: ROOM }),
  ]
  const queue = queueOf(...others, mine)
  expect(queue.take(mine)).toEqual([mine])
  for (const other of others) expect(queue.drop(other)).toBe(true)
})

it('whatever waits is taken once, together only with neighbours that fit', () => {
  const some = fc.array(fc.record({ at: fc.nat(40), size: fc.integer({ min: 1, max: 600_000 }), gap: fc.nat(100_000) }), {
    minLength: 1,
    maxLength: 20,
  })
  fc.assert(
    fc.property(some, fc.infiniteStream(fc.nat(1000)), (parts, picks) => {
      let offset = 0
      const openings = parts.map(({ size, gap }) => {
        offset += gap
        const made = opening(offset, { length: Math.ceil(size / 2), plain: size })
        offset += Math.ceil(size / 2)
        return made
      })
      const queue = queueOf(...openings)
      const left = new Set(openings)
      while (left.size > 0) {
        const mine = [...left][(picks.next().value ?? 0) % left.size]
        if (mine === undefined) throw new Error('none')
        const taken = queue.take(mine)
        expect(taken).toContain(mine)
        for (const each of taken) expect(left.delete(each)).toBe(true)
        const blobs = taken.flatMap((each) => each.blobs)
        expect(blobs.length).toBeLessThanOrEqual(4)
        expect([...neighbours(blobs, ROOM)]).toEqual([blobs])
      }
    }),
    { seed: 7, numRuns: 500 },
  )
})
