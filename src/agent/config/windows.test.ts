import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Weekday, Window } from '../../schedule/index.ts'
import { formatWindow, parseBlackout, parseWindow } from './windows.ts'

const SEED = 20_261_126

describe('a window', () => {
  test.each<[string, readonly number[], number, number]>([
    ['mon-fri 22:00-06:00', [1, 2, 3, 4, 5], 1320, 360],
    ['sat,sun', [6, 7], 0, 1440],
    ['22:00-06:00', [1, 2, 3, 4, 5, 6, 7], 1320, 360],
    ['Friday - Monday 0:30-24:00', [1, 5, 6, 7], 30, 1440],
    [' wed , fri-sat  8:00 - 0:00 ', [3, 5, 6], 480, 1440],
  ])('%s', (text, days, from, to) => {
    expect(parseWindow(text)).toEqual({ days, from, to })
  })

  test.each([
    ['mon-fir 22:00-06:00', 'did you mean "fri"?'],
    ['thirsday', 'did you mean "thursday"?'],
    ['mon-tue-wed', 'is no stretch of days'],
    ['', 'it is days, hours or both'],
    ['22:00', 'it is days, hours or both'],
    ['mon 22:00-22:00', 'it ends when it begins'],
    ['24:00-06:00', 'it begins at 24:00'],
    ['22:60-06:00', '"22:60" is no time of day'],
    ['22:00-24:01', '"24:01" is no time of day'],
    ['mon,,tue 22:00-23:00', '"" is no day'],
  ])('%j is none', (text, why) => {
    expect(() => parseWindow(text)).toThrow(expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(why) }))
  })

  const days = fc.subarray<Weekday>([1, 2, 3, 4, 5, 6, 7], { minLength: 1 })
  const window: fc.Arbitrary<Window> = fc
    .record({ days, from: fc.nat(1439), to: fc.integer({ min: 1, max: 1440 }) })
    .filter(({ from, to }) => from !== to)

  test('is read as it was written, whatever it is', () => {
    fc.assert(
      fc.property(window, (each) => {
        expect(parseWindow(formatWindow(each))).toEqual(each)
      }),
      { seed: SEED, numRuns: 2000 },
    )
  })

  test('any text is a sound window, or USAGE', () => {
    const piece = fc.constantFrom('mon', 'tue', 'sunday', 'x', '-', ',', ' ', ':', '0', '22', '24:00', '06:30', '-', '\n', '99')
    const text = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')),
    )
    fc.assert(
      fc.property(text, (written) => {
        let read: Window
        try {
          read = parseWindow(written)
        } catch (error) {
          expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining('is not a window') })
          return
        }
        expect(read.days.length).toBeGreaterThan(0)
        expect(read.from).toBeGreaterThanOrEqual(0)
        expect(read.from).toBeLessThan(1440)
        expect(read.to).toBeGreaterThan(0)
        expect(read.to).toBeLessThanOrEqual(1440)
        expect(parseWindow(formatWindow(read))).toEqual(read)
      }),
      { seed: SEED, numRuns: 5000 },
    )
  })
})

describe('a blackout', () => {
  test.each([
    ['2026-12-24', '2026-12-24T00:00', '2026-12-25T00:00'],
    ['2026-12-24 to 2026-12-26', '2026-12-24T00:00', '2026-12-27T00:00'],
    ['2026-12-24T18:00 to 2026-12-27 08:00', '2026-12-24T18:00', '2026-12-27T08:00'],
    ['2026-12-24T18:00 to 2026-12-31', '2026-12-24T18:00', '2027-01-01T00:00'],
  ])('%s', (text, from, to) => {
    expect(parseBlackout(text)).toEqual({ from, to })
  })

  test.each([
    ['2026-02-30', 'is no date'],
    ['2026-12-24T24:30', 'is no date'],
    ['christmas', 'is no date'],
    ['2026-12-26 to 2026-12-24', 'ends before it begins'],
    ['2026-12-24T18:00', 'ends before it begins'],
    ['2026-12-24 to 2026-12-25 to 2026-12-26', 'more than two ends'],
  ])('%j is none', (text, why) => {
    expect(() => parseBlackout(text)).toThrow(expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(why) }))
  })
})
