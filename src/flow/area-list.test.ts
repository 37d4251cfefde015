import fc from 'fast-check'
import { expect, test } from 'vitest'
import { mergeRanges, rangeEnd, totalLength } from '../core/index.ts'
import { AreaList } from './area-list.ts'

const ordered = fc
  .array(fc.record({ gap: fc.nat(300_000), length: fc.integer({ min: 1, max: 200_000 }) }), { maxLength: 200 })
  .map((steps) => {
    let offset = 0
    return steps.map(({ gap, length }) => {
      const range = { offset: offset + gap, length }
      offset = rangeEnd(range)
      return range
    })
  })

test('below the limit it holds exactly the merged ranges', () => {
  fc.assert(
    fc.property(ordered, (ranges) => {
      const list = new AreaList()
      for (const range of ranges) list.add(range)
      expect([...list]).toEqual(mergeRanges(ranges))
      expect(list.bytes).toBe(totalLength(mergeRanges(ranges)))
    }),
  )
})

test('past the limit it covers every range, stays ordered, and stays below the limit', () => {
  fc.assert(
    fc.property(ordered, fc.integer({ min: 4, max: 40 }), (ranges, limit) => {
      const list = new AreaList(limit)
      for (const range of ranges) list.add(range)
      const held = [...list]
      expect(held.length).toBeLessThanOrEqual(limit)
      for (const range of ranges) {
        expect(held.some((area) => area.offset <= range.offset && rangeEnd(area) >= rangeEnd(range))).toBe(true)
      }
      for (const [index, area] of held.entries()) {
        const before = held[index - 1]
        if (before !== undefined) expect(area.offset).toBeGreaterThan(rangeEnd(before))
      }
    }),
  )
})

test('ranges out of order are refused', () => {
  const list = new AreaList()
  list.add({ offset: 100, length: 1 })
  expect(() => list.add({ offset: 50, length: 1 })).toThrow(RangeError)
})

test('it is read by await as by for', async () => {
  const list = await AreaList.from([
    { offset: 0, length: 1 },
    { offset: 8, length: 2 },
  ])
  expect(await Array.fromAsync<unknown>(list)).toEqual([...list])
  expect(await AreaList.from(list)).toEqual(list)
})
