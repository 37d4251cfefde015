import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatSpan, parseSpan, spanBefore } from './span.ts'

describe('a duration', () => {
  it.each([
    ['14d', { years: 0, months: 0, days: 14, hours: 0 }, '14d'],
    ['1y6m', { years: 1, months: 6, days: 0, hours: 0 }, '1y6m'],
    ['2w3d12h', { years: 0, months: 0, days: 17, hours: 12 }, '17d12h'],
    ['0d', { years: 0, months: 0, days: 0, hours: 0 }, '0h'],
    [' 36h ', { years: 0, months: 0, days: 0, hours: 36 }, '36h'],
  ])('%s is read and written', (text, span, written) => {
    expect(parseSpan(text)).toEqual(span)
    expect(formatSpan(span)).toBe(written)
  })

  it.each(['', '14', 'd', '-3d', '1.5d', '3d3d', '2 d', '14days', '99999999999999999999d', '5000000d', '1d;rm'])(
    '%j is refused',
    (text) => {
      expect(() => parseSpan(text)).toThrow(expect.objectContaining({ code: 'USAGE' }))
    },
  )

  it.each([
    ['2026-11-22T20:00:00.000Z', '14d', '2026-11-08T20:00:00.000Z'],
    ['2026-03-15T10:00:00.000Z', '1m', '2026-02-15T10:00:00.000Z'],
    ['2026-01-15T10:00:00.000Z', '1m', '2025-12-15T10:00:00.000Z'],
    ['2026-03-31T10:00:00.000Z', '1m', '2026-03-01T00:00:00.000Z'],
    ['2024-02-29T10:00:00.000Z', '1y', '2023-03-01T00:00:00.000Z'],
    ['2026-11-22T20:00:00.000Z', '1y2m3d4h', '2025-09-19T16:00:00.000Z'],
    ['0050-03-01T00:00:00.000Z', '1m', '0050-02-01T00:00:00.000Z'],
  ])('%s less %s is %s', (from, span, expected) => {
    expect(new Date(spanBefore(Date.parse(from), parseSpan(span))).toISOString()).toBe(expected)
  })

  it('begins no later for an earlier end', () => {
    const moment = fc.integer({ min: Date.UTC(2023, 11, 25), max: Date.UTC(2026, 3, 5) })
    const span = fc.record({ years: fc.nat(2), months: fc.nat(14), days: fc.nat(40), hours: fc.nat(30) })
    fc.assert(
      fc.property(moment, fc.integer({ min: 0, max: 5 * 24 * 3_600_000 }), span, (at, later, length) => {
        expect(spanBefore(at, length)).toBeLessThanOrEqual(spanBefore(at + later, length))
        expect(spanBefore(at, length)).toBeLessThanOrEqual(at)
      }),
      { seed: 20_261_122, numRuns: 5000 },
    )
  })
})
