import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Coverage } from './coverage.ts'

it('takes each byte once, in any order, and knows when all are there', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.array(fc.tuple(fc.integer({ min: -2, max: 62 }), fc.integer({ min: -1, max: 20 }))),
      (size, pieces) => {
        const coverage = new Coverage(size)
        const model = new Uint8Array(size)
        for (const [start, length] of pieces) {
          const fits =
            length > 0 && start >= 0 && start + length <= size && model.subarray(start, start + length).every((byte) => byte === 0)
          expect(coverage.add(start, length)).toBe(fits)
          if (fits) model.fill(1, start, start + length)
          expect(coverage.complete).toBe(model.every((byte) => byte === 1))
        }
      },
    ),
    { seed: 7, numRuns: 2000 },
  )
})

it('refuses to keep more pieces apart than it has room for', () => {
  const coverage = new Coverage(20_000)
  let taken = 0
  for (let at = 0; at < 20_000; at += 2) if (coverage.add(at, 1)) taken++
  expect(taken).toBe(4096)
  expect(new Coverage(0).complete).toBe(true)
})
