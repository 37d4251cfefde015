import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ConsistencyLevel, PointId } from '../core/index.ts'
import { createCalendar } from './calendar.ts'
import { COUNTED_RULES, isEmptyPolicy, type RetentionPolicy } from './retention-policy.ts'
import { planRetention, type RetentionPoint } from './retention.ts'

/* Any points, any policy, any clock: what retention may never do. */
const SEED = 20_261_122
const RUNS = 1000
const HOUR = 3_600_000
/** Around both changes to and from summer time of 2026 in Europe, so that days of 23 and 25 hours and double hours occur often. */
const SPRING = Date.UTC(2026, 2, 29, 1)
const AUTUMN = Date.UTC(2026, 9, 25, 1)
const NOW = Date.UTC(2026, 10, 22, 20)

const moment = fc.oneof(
  fc.integer({ min: NOW - 400 * 24 * HOUR, max: NOW }),
  fc.integer({ min: -3, max: 3 }).map((hours) => SPRING + (hours * HOUR) / 2),
  fc.integer({ min: -3, max: 3 }).map((hours) => AUTUMN + (hours * HOUR) / 2),
  // Future, the beginning of time, year 1 and 9999, and clocks that stood still.
  fc.constantFrom(NOW + HOUR, NOW + 9000 * 24 * HOUR, 0, -62_135_596_800_000, Date.UTC(9999, 11, 31), NOW, NOW, NOW - HOUR),
)
const time = fc.oneof(
  { weight: 30, arbitrary: moment.map((at) => new Date(at).toISOString()) },
  { weight: 1, arbitrary: fc.constantFrom('', 'yesterday', 'NaN') },
)
const consistency = fc.constantFrom<ConsistencyLevel>('crash', 'filesystem', 'application')
const facts = fc.record({
  time,
  complete: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  consistency: fc.oneof({ weight: 3, arbitrary: fc.constant<ConsistencyLevel>('filesystem') }, { weight: 1, arbitrary: consistency }),
  missing: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.subarray(['scsi0:1', 'scsi0:2', 'rdm']) }),
  tags: fc.subarray(['hold', 'gold']),
  usedBy: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.constant('restore-vm job 1') }),
})
const points = fc.array(facts, { maxLength: 40 }).map((all) => all.map((each, index): RetentionPoint => ({ ...each, id: idOf(index) })))
const idOf = (index: number): PointId => `p${String((index * 7919) % 10_007).padStart(5, '0')}` as PointId

const count = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 5, max: 60 }))
const span = fc.record({ years: fc.constantFrom(0, 1), months: fc.constantFrom(0, 0, 1, 6), days: fc.nat(40), hours: fc.nat(30) })
const anyPolicy: fc.Arbitrary<RetentionPolicy> = fc.record(
  {
    last: count,
    hourly: count,
    daily: count,
    weekly: count,
    monthly: count,
    yearly: count,
    within: span,
    keepTags: fc.constantFrom([], [['hold']], [['hold', 'gold']]),
  },
  { requiredKeys: [] },
)
/** Policies that keep next to nothing: where what no policy may remove has to hold by itself. */
const meagre = fc.constantFrom<RetentionPolicy>(
  { last: 1 },
  { yearly: 1 },
  { keepTags: [['hold', 'gold']] },
  { last: 0, keepTags: [['hold']] },
)
const policy = fc.oneof({ weight: 2, arbitrary: anyPolicy }, { weight: 1, arbitrary: meagre })
const zone = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe', 'Pacific/Apia', '+05:45')
const clock = fc.oneof({ weight: 4, arbitrary: fc.constant(NOW) }, { weight: 1, arbitrary: moment })

type Case = { points: readonly RetentionPoint[]; policy: RetentionPolicy; zone: string; now: number }
const anyCase: fc.Arbitrary<Case> = fc.record({ points, policy: policy.filter((each) => !isEmptyPolicy(each)), zone, now: clock })

const calendars = new Map(['UTC'].map((name) => [name, createCalendar(name)]))
function calendarOf(name: string) {
  const known = calendars.get(name) ?? createCalendar(name)
  calendars.set(name, known)
  return known
}

const plan = (given: Case, among: readonly RetentionPoint[] = given.points) =>
  planRetention(among, given.policy, { calendar: calendarOf(given.zone), now: given.now })
const idsOf = (verdicts: ReturnType<typeof plan>, keep: boolean): Set<PointId> =>
  new Set(verdicts.filter((verdict) => verdict.keep === keep).map(({ point }) => point.id))
const counts = (given: Case, { complete, time: at }: RetentionPoint): boolean =>
  complete && Date.parse(at) <= given.now + 10 * 60_000 && !Number.isNaN(Date.parse(at))
const check = <T>(property: fc.IProperty<T>): void => fc.assert(property, { seed: SEED, numRuns: RUNS })
const LEVELS: readonly ConsistencyLevel[] = ['crash', 'filesystem', 'application']

describe('whatever the points, the policy and the clock', () => {
  it('the last complete point of a VM is kept', () => {
    check(
      fc.property(anyCase, (given) => {
        const kept = idsOf(plan(given), true)
        const complete = given.points.filter((point) => counts(given, point))
        const newest = Math.max(...complete.map(({ time: at }) => Date.parse(at)))
        const last = complete.filter(({ time: at }) => Date.parse(at) === newest)
        // Of points of one moment any may be the last; one of them is kept, or there is none.
        expect(last.length === 0 || last.some(({ id }) => kept.has(id))).toBe(true)
      }),
    )
  })

  it('no worse point takes the place of a better one: every forgotten point has a newer kept one with at least its disks and consistency', () => {
    check(
      fc.property(anyCase, (given) => {
        const verdicts = plan(given)
        for (const { point, keep } of verdicts) {
          if (keep) continue
          const replaced = verdicts.some(
            ({ point: newer, keep: stays, guard }) =>
              stays &&
              guard &&
              newer.complete &&
              Date.parse(newer.time) >= Date.parse(point.time) &&
              newer.missing.every((disk) => point.missing.includes(disk)) &&
              LEVELS.indexOf(newer.consistency) >= LEVELS.indexOf(point.consistency),
          )
          expect(replaced, `${point.id} is forgotten with nothing as good left`).toBe(true)
        }
      }),
    )
  })

  it('an incomplete, undated or future point, and one that is in use, is neither removed nor does it push another one out', () => {
    check(
      fc.property(anyCase, (given) => {
        const verdicts = plan(given)
        const forgotten = verdicts.filter(({ keep }) => !keep).map(({ point }) => point)
        expect(forgotten.every((point) => counts(given, point) && point.usedBy === undefined)).toBe(true)
        const without = plan(
          given,
          given.points.filter((point) => counts(given, point)),
        )
        expect(idsOf(without, false)).toEqual(idsOf(verdicts, false))
      }),
    )
  })

  it('what a part of the points makes it forget, all of them make it forget: a list cut short costs nothing', () => {
    check(
      fc.property(
        anyCase.chain((given) => fc.record({ given: fc.constant(given), part: fc.subarray([...given.points]) })),
        ({ given, part }) => {
          const all = idsOf(plan(given), false)
          for (const id of idsOf(plan(given, part), false)) expect(all.has(id)).toBe(true)
        },
      ),
    )
  })

  it('the order of the list and double entries change nothing', () => {
    check(
      fc.property(
        anyCase.chain((given) =>
          fc.record({
            given: fc.constant(given),
            shuffled: fc.shuffledSubarray([...given.points, ...given.points], { minLength: given.points.length * 2 }),
          }),
        ),
        ({ given, shuffled }) => {
          expect(plan(given, shuffled)).toEqual(plan(given))
        },
      ),
    )
  })

  it('applying it twice is applying it once', () => {
    check(
      fc.property(anyCase, (given) => {
        const kept = idsOf(plan(given), true)
        const left = given.points.filter(({ id }) => kept.has(id))
        expect(idsOf(plan(given, left), false)).toEqual(new Set())
      }),
    )
  })

  it('a newer point takes at most one place of each rule', () => {
    check(
      fc.property(anyCase, (given) => {
        const counting: Case = { ...given, policy: { ...given.policy, within: undefined } }
        if (isEmptyPolicy(counting.policy)) return
        const before = plan(counting)
        const newest = Math.max(0, ...counting.points.filter((point) => counts(counting, point)).map(({ time: at }) => Date.parse(at)))
        const now = Math.max(counting.now, newest + HOUR)
        // The clock goes on with the new point, so points from the future may begin to count: left out here, they have a test of their own.
        const old = counting.points.filter((point) => counts(counting, point))
        const added: RetentionPoint = {
          id: 'new' as PointId,
          time: new Date(newest + HOUR).toISOString(),
          complete: true,
          consistency: 'filesystem',
          missing: [],
        }
        const after = plan({ ...counting, now }, [...old, added])
        const keptBefore = idsOf(before, true)
        const gone = [...idsOf(after, false)].filter((id) => keptBefore.has(id))
        const rules = COUNTED_RULES.filter((rule) => (counting.policy[rule] ?? 0) > 0).length
        const guards = before.filter(({ guard }) => guard).length
        expect(gone.length).toBeLessThanOrEqual(rules + guards)
        expect(after.find(({ point }) => point.id === 'new')?.keep).toBe(true)
      }),
    )
  })

  it('keeping more of anything never forgets a point that keeping less kept', () => {
    check(
      fc.property(anyCase, fc.constantFrom(...COUNTED_RULES), fc.nat(5), (given, rule, more) => {
        const wider: Case = { ...given, policy: { ...given.policy, [rule]: (given.policy[rule] ?? 0) + more } }
        const kept = idsOf(plan(wider), true)
        for (const id of idsOf(plan(given), true)) expect(kept.has(id)).toBe(true)
      }),
    )
  })

  it('a clock that stepped back forgets no more than one that is right', () => {
    check(
      fc.property(anyCase, fc.nat(500 * 24), (given, hours) => {
        const right = idsOf(plan({ ...given, now: NOW }), false)
        for (const id of idsOf(plan({ ...given, now: NOW - hours * HOUR }), false)) expect(right.has(id)).toBe(true)
      }),
    )
  })

  it('a clock that is years ahead forgets only what counting forgets: "within" goes by the newest point', () => {
    check(
      fc.property(anyCase, (given) => {
        const past = given.points.filter((point) => Date.parse(point.time) <= NOW)
        const right = idsOf(plan({ ...given, now: NOW }, past), false)
        expect(idsOf(plan({ ...given, now: NOW + 3650 * 24 * HOUR }, past), false)).toEqual(right)
      }),
    )
  })

  it('an empty policy removes nothing: it is refused where it would', () => {
    check(
      fc.property(anyCase, fc.constantFrom<RetentionPolicy>({}, { last: 0, daily: 0 }, { keepTags: [] }), (given, empty) => {
        const allowed = (): ReturnType<typeof plan> => plan({ ...given, policy: empty })
        let verdicts: ReturnType<typeof plan>
        try {
          verdicts = allowed()
        } catch (error) {
          expect(error).toMatchObject({ code: 'USAGE' })
          return
        }
        expect(verdicts.every(({ keep }) => keep)).toBe(true)
      }),
    )
  })

  it('every point gets a verdict with a reason, newest first', () => {
    check(
      fc.property(anyCase, (given) => {
        const verdicts = plan(given)
        expect(verdicts.map(({ point }) => point.id).toSorted()).toEqual(given.points.map(({ id }) => id).toSorted())
        expect(verdicts.every(({ reasons }) => reasons.length > 0 && reasons.every((reason) => reason !== ''))).toBe(true)
        const times = verdicts.map(({ point }) => Date.parse(point.time)).filter((at) => !Number.isNaN(at))
        expect(times).toEqual(times.toSorted((a, b) => b - a))
      }),
    )
  })

  it('of archives, a point that a kept one stands on is kept, down to the full one', () => {
    check(
      fc.property(anyCase, fc.array(fc.nat(40), { minLength: 40, maxLength: 40 }), (given, parents) => {
        const chained = given.points.map((point, index) => ({ ...point, needs: given.points[parents[index] ?? 0]?.id }))
        const verdicts = plan(given, chained)
        const kept = idsOf(verdicts, true)
        for (const { point } of verdicts.filter(({ keep }) => keep)) expect(point.needs === undefined || kept.has(point.needs)).toBe(true)
      }),
    )
  })
})
