import { expect, it } from 'vitest'
import type { CheckRecord } from '../history/index.ts'
import { newCheckRecord, withShare, withSlice, withStructure } from './check-record.ts'
import { allReadSince, dueCheck } from './due-check.ts'

const DAY = 24 * 3_600_000
const rule = { structureMs: DAY, dataMs: 28 * DAY, windows: [], timeZone: 'UTC' }
const begin = Date.UTC(2026, 10, 1)
const at = (days: number): Date => new Date(begin + days * DAY)

/** Does what is due, all of it or only the first parts. */
function done(record: CheckRecord, now: Date, parts = Number.POSITIVE_INFINITY): CheckRecord {
  const due = dueCheck(rule, record, now)
  let next = due.structure ? withStructure(record, [], undefined, now) : record
  for (const slice of due.slices.slice(0, parts)) next = withSlice(next, slice, [], now)
  return due.slices.length > 0 && due.slices.length <= parts ? withShare(next, now) : next
}

it('is not due before a day has passed, and then reads each part once in four weeks', () => {
  let record = newCheckRecord(at(0))
  expect(dueCheck(rule, record, at(0.9))).toEqual({ structure: false, slices: [] })
  const read: number[] = []
  for (let day = 1; allReadSince(record) === undefined; day++) {
    expect(day).toBeLessThanOrEqual(28)
    const { structure, slices } = dueCheck(rule, record, at(day))
    expect(structure).toBe(true)
    read.push(...slices)
    record = done(record, at(day))
    expect(dueCheck(rule, record, at(day))).toEqual({ structure: false, slices: [] })
  }
  expect(read.slice(0, 256).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 256 }, (_, slice) => slice))
  // Ever after no part is older than four weeks and a day.
  for (let day = 29; day < 100; day++) {
    record = done(record, at(day))
    expect(Date.parse(allReadSince(record) ?? '')).toBeGreaterThan(at(day - 29).getTime())
  }
})

it('goes on where a share was interrupted, with the parts that it lacks', () => {
  const first = done(newCheckRecord(at(0)), at(1), 4)
  const left = dueCheck(rule, first, at(1.2))
  expect(left.slices).toEqual([4, 5, 6, 7, 8, 9])
  const second = done(first, at(1.2))
  expect(dueCheck(rule, second, at(1.3)).slices).toEqual([])
  expect(dueCheck(rule, second, at(2.2)).slices).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19])
})

it('makes up for an outage with one share, and a clock that stepped back does not stop it for ever', () => {
  const record = done(newCheckRecord(at(0)), at(1))
  expect(dueCheck(rule, record, at(90)).slices).toHaveLength(10)
  expect(dueCheck(rule, record, at(-40))).toMatchObject({ structure: true })
})

it('does nothing that is off', () => {
  const off = { ...rule, structureMs: undefined, dataMs: undefined }
  expect(dueCheck(off, newCheckRecord(at(0)), at(99))).toEqual({ structure: false, slices: [] })
})

it('keeps a problem until the same is found sound', () => {
  const damaged = { what: 'Pack aa is damaged.', slice: 7 }
  const lost = { what: 'A pack is missing.', point: undefined }
  let record = withSlice(newCheckRecord(at(0)), 7, [damaged], at(1))
  record = withStructure(record, [lost], { packs: 1, bytes: 2, unknownBytes: 0, unusedBytes: 1 }, at(1))
  expect(record.problems.map(({ what }) => what)).toEqual([lost.what, damaged.what])
  record = withSlice(record, 8, [], at(2))
  expect(record.problems).toHaveLength(2)
  record = withStructure(record, [], undefined, at(2))
  expect(record.problems.map(({ what }) => what)).toEqual([damaged.what])
  expect(record.size).toMatchObject({ bytes: 2 })
  expect(withSlice(record, 7, [], at(3)).problems).toEqual([])
})
