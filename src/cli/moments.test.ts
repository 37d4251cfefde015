import { expect, test } from 'vitest'
import { formatLength, formatMoment, parseMoment } from './moments.ts'

const BASE = new Date('2026-11-26T12:00:00Z')

test.each([
  ['now', 'UTC', '2026-11-26T12:00:00.000Z'],
  ['7d', 'UTC', '2026-12-03T12:00:00.000Z'],
  ['+2w', 'UTC', '2026-12-10T12:00:00.000Z'],
  ['36h', 'Europe/Berlin', '2026-11-28T00:00:00.000Z'],
  ['2026-12-24', 'Europe/Berlin', '2026-12-23T23:00:00.000Z'],
  ['2026-07-01T22:30', 'Europe/Berlin', '2026-07-01T20:30:00.000Z'],
  ['2026-07-01 22:30', 'UTC', '2026-07-01T22:30:00.000Z'],
  ['2026-07-01T22:30+05:45', 'Europe/Berlin', '2026-07-01T16:45:00.000Z'],
  ['2026-07-01T22:30:00Z', 'Europe/Berlin', '2026-07-01T22:30:00.000Z'],
])('%s in %s', (text, zone, iso) => {
  expect(parseMoment('--from', text, zone, BASE).toISOString()).toBe(iso)
})

test.each(['', 'soon', '2026-13-01', '2026-02-30', '99999999999999d', '7y', '25:00'])('%j is no moment', (text) => {
  expect(() => parseMoment('--from', text, 'UTC', BASE)).toThrow(
    expect.objectContaining({ code: 'USAGE', message: `The value of --from is wrong: "${text}" is not a moment.` }),
  )
})

test('moments are shown by the clock on the wall, lengths in two units', () => {
  expect(formatMoment(BASE, 'Europe/Berlin')).toBe('2026-11-26 13:00')
  expect([0, 59_000, 90 * 60_000, 86_400_000, 93_600_000, 90_061_000].map(formatLength)).toEqual([
    '0 s',
    '1 min',
    '1 h 30 min',
    '1 d',
    '1 d 2 h',
    '1 d 1 h',
  ])
})
