import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { PointId } from '../../src/core/index.ts'
import { COUNTED_RULES } from '../../src/schedule/retention-policy.ts'
import { createCalendar, formatSpan, planRetention, type RetentionPolicy } from '../../src/schedule/index.ts'
import { describePeer } from '../peer.ts'
import { ResticPlace } from './restic-fixture.ts'

/* The same counting as "restic forget": same snapshots, same numbers, same survivors. */
const HOUR = 3_600_000
const END = Date.UTC(2026, 10, 22, 20)
const SEED = 20_261_122

/** Moments of forty snapshots: several an hour, several a day, then days, weeks, months and years apart. */
const AGES = [
  0,
  0.2,
  0.4,
  1.1,
  1.5,
  3,
  7,
  11,
  23,
  25,
  26,
  40,
  50,
  51,
  75,
  ...[5, 6, 7, 8, 9, 13, 14, 15, 20, 21, 28, 30, 31, 45, 59, 60, 61, 90, 180, 330, 360, 365, 366, 700, 1100].map((days) => days * 24),
]

/** What restic's own arithmetic knows: a month's end is where the two differ on purpose. */
const span = fc.record({ years: fc.constantFrom(0, 0, 1), months: fc.constantFrom(0, 0, 1, 7), days: fc.nat(40), hours: fc.nat(30) })
const count = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 12 }))
const policies = fc
  .record({ last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count, within: span }, { requiredKeys: [] })
  .filter((policy) => COUNTED_RULES.some((rule) => (policy[rule] ?? 0) > 0))

const flagsOf = (policy: RetentionPolicy): string[] => [
  ...COUNTED_RULES.filter((rule) => (policy[rule] ?? 0) > 0).flatMap((rule) => [`--keep-${rule}`, String(policy[rule])]),
  ...(policy.within === undefined || formatSpan(policy.within) === '0h' ? [] : ['--keep-within', formatSpan(policy.within)]),
]

describePeer('restic', 'retention counts as restic does', () => {
  it('keeps exactly what "restic forget" keeps of the same snapshots', async () => {
    await using place = await ResticPlace.make()
    const ids = new Map<string, string>()
    {
      await using repository = await place.init()
      for (const age of AGES) {
        const time = new Date(END - age * HOUR).toISOString()
        await using writer = await repository.beginWrite()
        const tree = await writer.saveTree([])
        ids.set(await writer.commit({ time, tree, paths: ['/web01'], hostname: 'web01', username: 'vcb', tags: ['vcb-proxy'] }), time)
      }
    }
    const points = [...ids].map(([id, time]) => ({
      id: id as PointId,
      time,
      complete: true,
      consistency: 'filesystem' as const,
      missing: [],
    }))
    const calendar = createCalendar('UTC')
    let different = 0
    for (const policy of fc.sample(policies, { seed: SEED, numRuns: 25 })) {
      const shown = await place.restic('forget', '--dry-run', '--json', '--no-cache', '--group-by', '', ...flagsOf(policy))
      const [group] = JSON.parse(shown.toString()) as { keep: { id: string }[]; remove: { id: string }[] | null }[]
      const ours = planRetention(points, policy, { calendar, now: END })
      const kept = ours.filter(({ keep }) => keep).map(({ point }) => point.id as string)
      expect(kept.toSorted(), flagsOf(policy).join(' ')).toEqual(group?.keep.map(({ id }) => id).toSorted())
      if (kept.length < points.length) different++
    }
    expect(different).toBeGreaterThan(15)
  })
})
