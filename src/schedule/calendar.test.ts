import { describe, expect, it } from 'vitest'
import { createCalendar } from './calendar.ts'

const at = (zone: string, time: string) => createCalendar(zone).periodsOf(Date.parse(time))

describe('a calendar', () => {
  it('tells the periods of a moment in its time zone', () => {
    expect(at('Europe/Berlin', '2026-11-22T23:30:00Z')).toEqual({
      hourly: '2026-11-23 00h +01:00',
      daily: '2026-11-23',
      weekly: '2026-W48',
      monthly: '2026-11',
      yearly: '2026',
    })
    expect(at('UTC', '2026-11-22T23:30:00Z')).toMatchObject({ daily: '2026-11-22', weekly: '2026-W47' })
    expect(at('+05:45', '2026-12-31T18:30:00Z')).toMatchObject({ daily: '2027-01-01', yearly: '2027', weekly: '2026-W53' })
  })

  it('counts weeks as ISO 8601 does, with the year of the week', () => {
    expect(at('UTC', '2027-01-03T12:00:00Z')).toMatchObject({ weekly: '2026-W53', yearly: '2027' })
    expect(at('UTC', '2024-12-30T12:00:00Z')).toMatchObject({ weekly: '2025-W01', yearly: '2024' })
  })

  it('tells the two hours apart when the clock is set back, and knows days of 23 and 25 hours', () => {
    expect(at('Europe/Berlin', '2026-10-25T00:30:00Z').hourly).toBe('2026-10-25 02h +02:00')
    expect(at('Europe/Berlin', '2026-10-25T01:30:00Z').hourly).toBe('2026-10-25 02h +01:00')
    const calendar = createCalendar('Europe/Berlin')
    const hours = (day: string): number =>
      Array.from({ length: 72 }, (_, hour) => Date.parse(`${day}T00:00:00Z`) + (hour - 24) * 3_600_000).filter(
        (moment) => calendar.periodsOf(moment).daily === day,
      ).length
    expect(hours('2026-03-29')).toBe(23)
    expect(hours('2026-10-25')).toBe(25)
    expect(hours('2026-07-01')).toBe(24)
  })

  it('gives the same answer again, and takes years 1 to 9999', () => {
    const calendar = createCalendar('Asia/Kathmandu')
    const moment = Date.parse('2026-11-22T12:00:00Z')
    expect(calendar.periodsOf(moment)).toBe(calendar.periodsOf(moment))
    expect(createCalendar('UTC').periodsOf(Date.parse('0001-01-01T00:00:00Z'))).toMatchObject({ yearly: '0001', weekly: '0001-W01' })
    expect(createCalendar('UTC').periodsOf(Date.parse('9999-12-31T00:00:00Z'))).toMatchObject({ daily: '9999-12-31' })
  })

  it.each(['Europe/Atlantis', '', 'CEST+99', '+99:00'])('refuses the zone %j', (zone) => {
    expect(() => createCalendar(zone)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })
})
