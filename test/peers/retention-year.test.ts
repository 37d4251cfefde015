import { expect, it } from 'vitest'
import type { PointId } from '../../src/core/index.ts'
import { createCalendar, planRetention, type RetentionPoint, type RetentionPolicy } from '../../src/schedule/index.ts'
import { describePeer } from '../peer.ts'
import { simulatedYear, YEAR } from '../simulated-year.ts'
import { ResticPlace } from './restic-fixture.ts'

/* Retention over the simulated year, night after night, against the survivors of stock restic on the same snapshots. */
const DAY = 24 * 3_600_000
/** Of each job: its first VMs, and what is kept of them. */
const SAMPLES: readonly {
  readonly job: string
  readonly vms: number
  readonly policy: RetentionPolicy
  readonly flags: readonly string[]
}[] = [
  {
    job: 'nightly',
    vms: 3,
    policy: { daily: 7, weekly: 5, monthly: 12 },
    flags: ['--keep-daily', '7', '--keep-weekly', '5', '--keep-monthly', '12'],
  },
  { job: 'daily-target', vms: 2, policy: { last: 30, yearly: 3 }, flags: ['--keep-last', '30', '--keep-yearly', '3'] },
  {
    job: 'gold',
    vms: 2,
    policy: { hourly: 48, daily: 14, weekly: 8 },
    flags: ['--keep-hourly', '48', '--keep-daily', '14', '--keep-weekly', '8'],
  },
  { job: 'overseas', vms: 2, policy: { daily: 31, monthly: 6 }, flags: ['--keep-daily', '31', '--keep-monthly', '6'] },
]
/** The days on which both forget: the ends of months and weeks lie among them. */
const EVERY_DAYS = 61
/** restic 0.16 brought `--keep-…` the oldest snapshot where there are fewer periods than asked for. */
const KEEPS_OLDEST_MINOR = 16

describePeer('restic', 'retention over a year', () => {
  it('leaves what "restic forget" leaves, from one forget to the next', async () => {
    const { runs } = simulatedYear()
    const good = Map.groupBy(
      runs.filter(({ error }) => error === undefined).toSorted((a, b) => a.begunAt - b.begunAt),
      ({ job, vm }) => `${job} ${vm.name}`,
    )
    await using place = await ResticPlace.make('/dev/shm')
    // Debian's restic is from before the rule that keeps the oldest snapshot while periods are left over.
    const [, minor = '0'] = /restic 0\.(\d+)/.exec((await place.restic('version')).toString()) ?? []
    const keepsOldest = Number(minor) >= KEEPS_OLDEST_MINOR
    let tree = ''
    const calendar = createCalendar('UTC')
    const lines = SAMPLES.flatMap(({ job, vms, policy }) =>
      [...good]
        .filter(([key]) => key.startsWith(`${job} `))
        .slice(0, vms)
        .map(([, own]) => ({ job, policy, own, kept: [] as RetentionPoint[] })),
    )
    {
      await using repository = await place.init()
      await using writer = await repository.beginWrite()
      tree = await writer.saveTree([])
      await writer.commit({
        time: new Date(YEAR.from - DAY).toISOString(),
        tree,
        paths: ['/none'],
        hostname: 'none',
        username: 'vcb',
        tags: ['none'],
      })
    }
    let compared = 0
    let forgotten = 0
    for (let day = EVERY_DAYS; day <= (YEAR.to - YEAR.from) / DAY; day += EVERY_DAYS) {
      const [from, to] = [YEAR.from + (day - EVERY_DAYS) * DAY, YEAR.from + day * DAY]
      for (const line of lines) {
        for (const { begunAt, vm, mode } of line.own) {
          if (begunAt < from || begunAt >= to) continue
          const time = new Date(begunAt).toISOString()
          const id = await place.saveSnapshot({
            time,
            tree,
            paths: [`/${vm.name}`],
            hostname: vm.name,
            username: 'vcb',
            tags: [line.job, mode],
          })
          line.kept.push({ id: id as PointId, time, complete: true, consistency: 'filesystem', missing: [] })
        }
      }
      for (const { job, flags } of SAMPLES) {
        await place.restic('forget', '--no-cache', '--tag', job, '--group-by', 'host', ...flags)
      }
      for (const line of lines) {
        const verdicts = planRetention(line.kept, line.policy, { calendar, now: to }).map((verdict) =>
          keepsOldest
            ? verdict
            : { ...verdict, keep: verdict.reasons.some((reason) => !reason.startsWith('the oldest: ')) && verdict.keep },
        )
        forgotten += verdicts.filter(({ keep }) => !keep).length
        line.kept = verdicts.filter(({ keep }) => keep).map(({ point }) => point)
      }
      const listed = JSON.parse((await place.restic('snapshots', '--no-cache', '--json')).toString()) as { id: string; hostname: string }[]
      const left = listed.filter(({ hostname }) => hostname !== 'none')
      const ours = lines.flatMap(({ kept }) => kept.map(({ id }) => id as string))
      expect(left.map(({ id }) => id).toSorted(), `after day ${day}`).toEqual(ours.toSorted())
      compared += left.length
    }
    console.log(`${lines.length} VMs, ${compared} survivors compared in all, ${forgotten} points forgotten by both`)
    expect(forgotten).toBeGreaterThan(3_000)
  })
})
