import { describe, expect, it } from 'vitest'
import type { VmRef } from '../core/index.ts'
import { createDuePlanner } from './due.ts'
import type { JobSchedule, VmRecord, Weekday } from './job-schedule.ts'

const HOUR = 3_600_000
const ALL: readonly Weekday[] = [1, 2, 3, 4, 5, 6, 7]
const vm: VmRef = { moref: 'vm-1', name: 'web01', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/web01' }
const at = (time: string): number => Date.parse(time)
const nightly: JobSchedule = {
  timeZone: 'Europe/Berlin',
  cron: ['0 22 * * 1-5'],
  rpoMs: undefined,
  full: { cron: ['0 22 * * 5'] },
  windows: [],
  blackouts: [],
  priority: 0,
  retry: { attempts: 2, delayMs: 10 * 60_000, on: ['UNAVAILABLE', 'CAPACITY'] },
}
const record = (of: Partial<VmRecord> = {}): VmRecord => ({
  vm,
  knownSince: at('2026-01-01T00:00:00Z'),
  lastGoodAt: at('2026-11-20T21:00:10Z'),
  lastFullAt: at('2026-11-20T21:00:10Z'),
  runs: [],
  expectMs: 20 * 60_000,
  ...of,
})
const planner = (of: Partial<JobSchedule> = {}) => createDuePlanner('nightly', { ...nightly, ...of })

describe('what is due by moments', () => {
  // Monday, 23 November 2026: 22:00 in Berlin is 21:00 UTC.
  it('is nothing before the moment, and one run from then on', () => {
    const due = (now: string) => planner().due(record(), at(now))
    expect(due('2026-11-23T20:59:59Z')).toBeUndefined()
    expect(due('2026-11-23T21:00:00Z')).toMatchObject({ mode: 'incremental', dueAt: at('2026-11-23T21:00:00Z'), attempt: 1 })
    expect(planner().next(record(), at('2026-11-22T12:00:00Z'))).toBe(at('2026-11-23T21:00:00Z'))
    const done = record({ lastGoodAt: at('2026-11-23T21:00:07Z') })
    expect(planner().due(done, at('2026-11-23T21:30:00Z'))).toBeUndefined()
    expect(planner().next(done, at('2026-11-23T21:30:00Z'))).toBe(at('2026-11-24T21:00:00Z'))
  })

  it('is a full one from its moment on until there is one', () => {
    const friday = record({ lastGoodAt: at('2026-11-26T21:00:10Z') })
    expect(planner().due(friday, at('2026-11-27T21:00:00Z'))).toMatchObject({ mode: 'full' })
    const failed = record({
      lastGoodAt: at('2026-11-26T21:00:10Z'),
      runs: [{ begunAt: at('2026-11-27T21:00:00Z'), endedAt: at('2026-11-27T21:10:00Z'), error: 'GUEST' }],
    })
    expect(planner().due(failed, at('2026-11-28T12:00:00Z'))).toBeUndefined()
    expect(planner().due(failed, at('2026-11-30T21:00:00Z'))).toMatchObject({ mode: 'full', since: at('2026-11-27T21:00:00Z') })
  })

  it('is one run in place of all that an outage took', () => {
    const due = planner().due(record(), at('2026-11-26T09:00:00Z'))
    expect(due).toMatchObject({ dueAt: at('2026-11-25T21:00:00Z'), since: at('2026-11-23T21:00:00Z'), attempt: 1 })
    expect(due?.reason).toContain('in place of earlier ones that were missed')
  })

  it('is nothing from before the job knew the VM', () => {
    const fresh = record({ knownSince: at('2026-11-24T08:00:00Z'), lastGoodAt: undefined, lastFullAt: undefined })
    expect(planner().due(fresh, at('2026-11-24T08:00:00Z'))).toBeUndefined()
    expect(planner().due(fresh, at('2026-11-24T21:00:00Z'))).toMatchObject({ mode: 'full', since: at('2026-11-24T21:00:00Z') })
  })

  it('is full or not by the other rules', () => {
    const now = at('2026-11-24T21:00:00Z')
    expect(planner({ full: 'always' }).due(record(), now)?.mode).toBe('full')
    expect(planner({ full: 'first' }).due(record(), now)?.mode).toBe('incremental')
    expect(planner({ full: 'first' }).due(record({ lastFullAt: undefined }), now)?.mode).toBe('full')
    expect(planner({ full: { everyMs: 4 * 24 * HOUR } }).due(record(), now)?.mode).toBe('full')
    expect(planner({ full: { everyMs: 5 * 24 * HOUR } }).due(record(), now)?.mode).toBe('incremental')
  })
})

describe('another try', () => {
  const moment = at('2026-11-23T21:00:00Z')
  const failed = (count: number, error: 'UNAVAILABLE' | 'GUEST' = 'UNAVAILABLE') =>
    record({
      runs: Array.from({ length: count }, (_, index) => ({
        begunAt: moment + (count - index - 1) * HOUR,
        endedAt: moment + (count - index - 1) * HOUR + 60_000,
        error,
      })),
    })
  it('comes after the pause, which doubles, and only for the causes named', () => {
    const one = planner().due(failed(1), moment + 11 * 60_000)
    expect(one).toMatchObject({ attempt: 2, dueAt: moment })
    expect(one?.reason).toContain('try 2 after UNAVAILABLE')
    expect(planner().due(failed(1), moment + 11 * 60_000 - 1)).toBeUndefined()
    expect(planner().next(failed(1), moment + 60_000)).toBe(moment + 11 * 60_000)
    expect(planner().due(failed(2), moment + HOUR + 21 * 60_000 - 1)).toBeUndefined()
    expect(planner().due(failed(2), moment + HOUR + 21 * 60_000)).toMatchObject({ attempt: 3 })
    expect(planner().due(failed(1, 'GUEST'), moment + 20 * HOUR)).toBeUndefined()
  })

  it('does not come when there were enough, until the next moment', () => {
    expect(planner().due(failed(3), moment + 20 * HOUR)).toBeUndefined()
    expect(planner().next(failed(3), moment + 20 * HOUR)).toBe(moment + 24 * HOUR)
    expect(planner().due(failed(3), moment + 24 * HOUR)).toMatchObject({ attempt: 1, since: moment })
  })
})

describe('what is due by an RPO', () => {
  const rpo = { cron: [], full: 'first', rpoMs: 24 * HOUR } as const
  it('ends before the last good point is too old', () => {
    const last = at('2026-11-23T12:00:00Z')
    const known = record({ lastGoodAt: last })
    // 24 h less 1 h spare less half as long again as a run takes.
    const begin = last + 24 * HOUR - HOUR - 30 * 60_000
    expect(planner(rpo).next(known, last + HOUR)).toBe(begin)
    expect(planner(rpo).due(known, begin - 1)).toBeUndefined()
    expect(planner(rpo).due(known, begin)).toMatchObject({ deadline: last + 24 * HOUR, attempt: 1 })
  })

  it('is at once where there is no point, and again and again where none comes to be', () => {
    const since = at('2026-11-23T12:00:00Z')
    const fresh = record({ knownSince: since, lastGoodAt: undefined, lastFullAt: undefined })
    expect(planner(rpo).due(fresh, since)).toMatchObject({ mode: 'full', deadline: since + 24 * HOUR })
    const refused = { ...fresh, runs: [{ begunAt: since, endedAt: since + 60_000, error: 'GUEST' as const }] }
    expect(planner(rpo).due(refused, since + 6 * HOUR - 1)).toBeUndefined()
    expect(planner(rpo).next(refused, since + HOUR)).toBe(since + 6 * HOUR)
    expect(planner(rpo).due(refused, since + 6 * HOUR)).toMatchObject({ attempt: 1, dueAt: since + 6 * HOUR })
  })

  it('moves into the window: to its opening, or before it closes where the next one is too late', () => {
    const windows = [{ days: ALL, from: 22 * 60, to: 6 * 60 }]
    // Good at 22:30 in Berlin: by itself due at 21:00 the next day, an hour before the window opens.
    const late = record({ lastGoodAt: at('2026-11-23T21:30:00Z') })
    expect(planner({ ...rpo, windows }).next(late, at('2026-11-24T08:00:00Z'))).toBe(at('2026-11-24T21:00:00Z'))
    // Good at noon by hand: the window of the evening before the deadline is the last one, and leaves room in it for further tries.
    const noon = record({ lastGoodAt: at('2026-11-23T11:00:00Z') })
    const planned = planner({ ...rpo, windows })
    expect(planned.next(noon, at('2026-11-23T12:00:00Z'))).toBe(at('2026-11-24T00:30:00Z'))
    expect(planned.due(noon, at('2026-11-24T00:30:00Z'))).toMatchObject({ openUntil: at('2026-11-24T05:00:00Z') })
  })
})

describe('windows and blackouts', () => {
  const windows = [{ days: [1, 2, 3, 4, 5] as const, from: 22 * 60, to: 5 * 60 }]
  it('let a run begin only inside, and tell until when', () => {
    const planned = planner({ cron: ['0 20 * * *'], windows })
    const now = at('2026-11-23T19:30:00Z')
    expect(planned.due(record(), now)).toBeUndefined()
    expect(planned.next(record(), now)).toBe(at('2026-11-23T21:00:00Z'))
    expect(planned.due(record(), at('2026-11-23T21:00:00Z'))).toMatchObject({
      dueAt: at('2026-11-23T19:00:00Z'),
      openUntil: at('2026-11-24T04:00:00Z'),
    })
    // The window of Friday reaches into Saturday; the next one is Monday's.
    expect(planned.due(record(), at('2026-11-28T03:59:59Z'))).toBeDefined()
    expect(planned.due(record(), at('2026-11-28T04:00:00Z'))).toBeUndefined()
    expect(planned.next(record(), at('2026-11-28T04:00:00Z'))).toBe(at('2026-11-30T21:00:00Z'))
  })

  it('leave out blackouts', () => {
    const planned = planner({ blackouts: [{ from: '2026-11-23T18:00', to: '2026-11-25T08:00' }] })
    expect(planned.due(record(), at('2026-11-23T21:00:00Z'))).toBeUndefined()
    expect(planned.next(record(), at('2026-11-23T21:00:00Z'))).toBe(at('2026-11-25T07:00:00Z'))
    expect(planned.due(record(), at('2026-11-25T07:00:00Z'))).toMatchObject({ dueAt: at('2026-11-24T21:00:00Z') })
  })

  it('follow the clock on the wall when it is set', () => {
    const planned = planner({ cron: ['0 0 * * *'], full: 'first', windows: [{ days: ALL, from: 60, to: 4 * 60 }] })
    const opens = (from: string) => planned.next(record({ lastGoodAt: at(from) - 26 * HOUR }), at(from))
    // 01:00 to 04:00 is two hours long on 29 March and four on 25 October.
    expect(opens('2026-03-28T23:00:00Z')).toBe(at('2026-03-29T00:00:00Z'))
    const closes = (now: string) => planned.due(record({ lastGoodAt: at(now) - 26 * HOUR }), at(now))?.openUntil
    expect(closes('2026-03-29T00:00:00Z')).toBe(at('2026-03-29T02:00:00Z'))
    expect(closes('2026-10-24T23:00:00Z')).toBe(at('2026-10-25T03:00:00Z'))
  })
})

describe('a schedule that cannot be', () => {
  it.each([
    [{ cron: ['61 * * * *'] }, '"61 * * * *" says no moments'],
    [{ cron: ['0 22 31 2 *'] }, 'there is no such day'],
    [{ cron: ['* * * * * *'] }, 'says no moments'],
    [{ blackouts: [{ from: '2026-13-01', to: '2026-12-02' }] }, 'is not a date and time'],
    [{ blackouts: [{ from: '2026-12-02T00:00', to: '2026-12-01T00:00' }] }, 'ends before it begins'],
  ])('%j is refused by name', (of, message) => {
    expect(() => planner(of)).toThrow(expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(message) }))
  })
})
