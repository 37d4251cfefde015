import { describe, expect, it } from 'vitest'
import type { PointId } from '../core/index.ts'
import { createCalendar } from './calendar.ts'
import { isEmptyPolicy, parsePolicy, type RetentionPolicy } from './retention-policy.ts'
import { planRetention, type RetentionPoint } from './retention.ts'

const NOW = Date.parse('2026-11-22T20:00:00Z')
const calendar = createCalendar('UTC')

function point(id: string, time: string, change: Partial<RetentionPoint> = {}): RetentionPoint {
  return { id: id as PointId, time, complete: true, consistency: 'filesystem', missing: [], ...change }
}

/** `id: reasons` of what is kept, `-id` of what is forgotten, newest first. */
const decide = (points: readonly RetentionPoint[], policy: RetentionPolicy, now = NOW): string[] =>
  planRetention(points, policy, { calendar, now }).map(({ point: { id }, keep, reasons }) =>
    keep ? `${id}: ${reasons.join('; ')}` : `-${id}`,
  )

const nightly = (days: number): RetentionPoint[] =>
  Array.from({ length: days }, (_, day) => point(`d${day}`, new Date(NOW - day * 86_400_000).toISOString()))

describe('a policy', () => {
  it('keeps the newest points, and the newest of each of the newest periods', () => {
    expect(decide(nightly(10), { last: 2, daily: 3, weekly: 2 })).toEqual([
      'd0: last 2; daily 2026-11-22; weekly 2026-W47; the last complete point of the VM',
      'd1: last 2; daily 2026-11-21',
      'd2: daily 2026-11-20',
      '-d3',
      '-d4',
      '-d5',
      '-d6',
      'd7: weekly 2026-W46',
      '-d8',
      '-d9',
    ])
  })

  it('keeps the oldest point while a rule has room, so that the history grows to its length', () => {
    expect(decide(nightly(3), { monthly: 6 })).toEqual([
      'd0: monthly 2026-11; the last complete point of the VM',
      '-d1',
      'd2: the oldest: monthly has room for 5 more',
    ])
  })

  it('keeps what is within a duration of the newest point', () => {
    expect(decide(nightly(4), parsePolicy({ within: '2d' }))).toEqual([
      'd0: within 2d; the last complete point of the VM',
      'd1: within 2d',
      '-d2',
      '-d3',
    ])
  })

  it('keeps tagged points, all tags of a list together', () => {
    const points = [
      point('a', '2026-11-22T10:00:00Z'),
      point('b', '2026-11-21T10:00:00Z', { tags: ['x', 'y'] }),
      point('c', '2026-11-20T10:00:00Z', { tags: ['x'] }),
    ]
    expect(decide(points, parsePolicy({ keepTags: ['x,y'] }))).toEqual(['a: the last complete point of the VM', 'b: tag x and y', '-c'])
  })

  it('that is empty or all zero is refused where it would remove something, and only there', () => {
    expect(() => decide(nightly(2), {})).toThrow(expect.objectContaining({ code: 'USAGE' }))
    expect(() => decide(nightly(2), parsePolicy({ last: '0', within: '0d' }))).toThrow('would remove 1 restore points')
    expect(decide(nightly(1), {})).toEqual(['d0: the last complete point of the VM'])
    expect([{}, { last: 0 }, { within: { years: 0, months: 0, days: 0, hours: 0 } }, { keepTags: [] }].every(isEmptyPolicy)).toBe(true)
    expect(isEmptyPolicy({ yearly: 1 })).toBe(false)
  })

  it.each([
    { last: '-1' },
    { daily: '1.5' },
    { weekly: 'many' },
    { monthly: '1e9' },
    { yearly: Number.NaN },
    { keepTags: [' , '] },
    { within: '2 weeks' },
  ])('%j is refused', (text) => {
    expect(() => parsePolicy(text)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })
})

describe('what no policy removes', () => {
  it('the last point that held all disks, while newer ones lack one', () => {
    const partial = { missing: ['scsi0:1'] }
    expect(
      decide(
        [
          point('n3', '2026-11-22T02:00:00Z', partial),
          point('n2', '2026-11-21T02:00:00Z', partial),
          point('n1', '2026-11-20T02:00:00Z', partial),
          point('whole', '2026-11-19T02:00:00Z'),
          point('older', '2026-11-18T02:00:00Z'),
        ],
        { last: 1 },
      ),
    ).toEqual(['n3: last 1; the last complete point of the VM', '-n2', '-n1', 'whole: the last point that holds scsi0:1', '-older'])
  })

  it('the last point of a better consistency', () => {
    const crash = { consistency: 'crash' } as const
    expect(
      decide([point('b', '2026-11-22T02:00:00Z', crash), point('a', '2026-11-21T02:00:00Z'), point('old', '2026-11-20T02:00:00Z')], {
        last: 1,
      }),
    ).toEqual(['b: last 1; the last complete point of the VM', 'a: the last filesystem-consistent point', '-old'])
  })

  it('a point that is as good as it ever gets: a disk that no point could hold protects nothing', () => {
    const rdm = { missing: ['scsi0:5'] }
    expect(decide([point('b', '2026-11-22T02:00:00Z', rdm), point('a', '2026-11-21T02:00:00Z', rdm)], { last: 1 })).toEqual([
      'b: last 1; the last complete point of the VM',
      '-a',
    ])
  })

  it('a point that is not complete, has no time, is listed twice differently, or is dated in the future', () => {
    expect(
      decide(
        [
          point('future', '2036-01-01T00:00:00Z'),
          point('twin', '2026-11-22T11:00:00Z'),
          point('twin', '2026-11-22T12:00:00Z'),
          point('partial', '2026-11-22T10:00:00Z', { complete: false }),
          point('b', '2026-11-22T09:00:00Z'),
          point('a', '2026-11-21T09:00:00Z'),
          point('undated', 'soon'),
        ],
        { last: 1 },
      ),
    ).toEqual([
      'future: dated in the future: kept until then, not counted',
      'twin: listed twice with different facts: not counted, not removed by policy',
      'partial: not complete: not counted, not removed by policy',
      'b: last 1; the last complete point of the VM',
      '-a',
      'undated: without a readable time: not counted, not removed by policy',
    ])
  })

  it('a point a few minutes ahead of this clock counts', () => {
    expect(decide([point('b', '2026-11-22T20:05:00Z'), point('a', '2026-11-22T19:00:00Z')], { last: 1 })).toEqual([
      'b: last 1; the last complete point of the VM',
      '-a',
    ])
  })

  it('a point that is in use, and the points of a chain below one that is kept', () => {
    expect(
      decide(
        [
          point('i3', '2026-11-22T09:00:00Z', { needs: 'f2' as PointId }),
          point('f2', '2026-11-21T09:00:00Z'),
          point('i1', '2026-11-20T09:00:00Z', { needs: 'f0' as PointId, usedBy: 'restore-vm job 7' }),
          point('f0', '2026-11-19T09:00:00Z'),
          point('e', '2026-11-18T09:00:00Z'),
        ],
        { last: 1 },
      ),
    ).toEqual([
      'i3: last 1; the last complete point of the VM',
      'f2: i3 stands on it',
      'i1: in use by restore-vm job 7',
      'f0: i1 stands on it',
      '-e',
    ])
  })
})
