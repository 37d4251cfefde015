import { describe, expect, it } from 'vitest'
import { simulatedYear, YEAR } from '../simulated-year.ts'

/* A year of 1,000 VMs by the scheduler's own code, judged by arithmetic of the test's own. */
const HOUR = 3_600_000

/** Minutes after midnight and weekday (0 = Sunday) by the clock on the wall, from the runtime's formatter and not from the scheduler's. */
const clocks = new Map<string, Intl.DateTimeFormat>()
function wall(at: number, timeZone: string): { minutes: number; weekday: number; date: string } {
  const format =
    clocks.get(timeZone) ??
    new Intl.DateTimeFormat('en-GB', {
      timeZone,
      hourCycle: 'h23',
      weekday: 'short',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
    })
  clocks.set(timeZone, format)
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]))
  const weekday = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'].indexOf(parts['weekday'] ?? '')
  return {
    minutes: Number(parts['hour']) * 60 + Number(parts['minute']),
    weekday,
    date: `${parts['year']}-${parts['month']}-${parts['day']}`,
  }
}

describe('a year of 1,000 VMs', () => {
  const began = process.cpuUsage()
  const { jobs, runs, misses, room, away } = simulatedYear()
  const { user, system } = process.cpuUsage(began)
  const seconds = (user + system) / 1e6
  const jobOf = new Map(jobs.map((job) => [job.name, job]))
  const good = runs.filter(({ error }) => error === undefined)

  it('is simulated in seconds', () => {
    console.log(`${runs.length} runs of a year in ${seconds.toFixed(1)} s of processor time, ${misses.length} RPO misses`)
    expect(seconds).toBeLessThan(30)
    expect(runs.length).toBeGreaterThan(350_000)
  })

  it('keeps every window and blackout, and begins nothing while no agent runs', () => {
    for (const { begunAt, job } of runs) {
      const { schedule } = jobOf.get(job) ?? expect.fail(job)
      const { minutes, weekday, date } = wall(begunAt, schedule.timeZone)
      const open = schedule.windows.some(({ days, from, to }) => {
        const on = (day: number): boolean => days.some((each) => each % 7 === (day + 7) % 7)
        return to > from
          ? on(weekday) && minutes >= from && minutes < to
          : (on(weekday) && minutes >= from) || (on(weekday - 1) && minutes < to)
      })
      if (schedule.windows.length > 0 && !open) expect.fail(`${job} began at ${new Date(begunAt).toISOString()}, outside its windows`)
      if (schedule.blackouts.some(({ from, to }) => date >= from.slice(0, 10) && date < to.slice(0, 10))) expect.fail(`${job} on ${date}`)
      if (away.some(({ from, to }) => from <= begunAt && begunAt < to)) expect.fail(`${job} began while no agent ran`)
    }
  })

  it('never has more runs at once than there is room for, no VM twice, no two of a group', () => {
    const places = new Map(jobs.flatMap(({ vms }) => vms.map(({ vm, place }) => [vm.instanceUuid, place])))
    const steps = runs.flatMap((run) => [
      { at: run.begunAt, by: 1, run },
      { at: run.endedAt, by: -1, run },
    ])
    steps.sort((a, b) => a.at - b.at || a.by - b.by)
    const used = new Map<string, number>()
    const limits: Readonly<Record<string, number>> = {
      proxy: room.proxy,
      host: room.host ?? Infinity,
      datastore: room.datastore ?? Infinity,
      vm: 1,
      apart: 1,
    }
    for (const { by, run, at } of steps) {
      const place = places.get(run.vm.instanceUuid) ?? expect.fail(run.vm.name)
      const taken = [
        ['proxy', ''],
        ['host', place.host],
        ['vm', run.vm.instanceUuid],
        ...place.datastores.map((name) => ['datastore', name]),
        ...place.apart.map((name) => ['apart', name]),
      ]
      for (const [what = '', which] of taken) {
        const now = (used.get(`${what} ${which}`) ?? 0) + by
        used.set(`${what} ${which}`, now)
        if (now > (limits[what] ?? 0)) expect.fail(`${now} runs on ${what} ${which} at ${new Date(at).toISOString()}`)
      }
    }
  })

  it('makes a full point in every week of the weekly job, and one run a night', () => {
    const weekly = Map.groupBy(
      good.filter(({ job }) => job === 'nightly'),
      ({ vm }) => vm.instanceUuid,
    )
    const days = (YEAR.to - YEAR.from) / (24 * HOUR)
    for (const [vm, own] of weekly) {
      const fulls = own.filter(({ mode }) => mode === 'full')
      if (fulls.length < 51 || fulls.length > 54) expect.fail(`${vm} has ${fulls.length} full points`)
      // A blackout of four nights, two days without an agent, and failures that no retry cured.
      if (own.length < days - 25 || own.length > days) expect.fail(`${vm} has ${own.length} points`)
    }
    expect(weekly.size).toBe(700)
  })

  it('lists exactly the stretches in which a last good point was too old', () => {
    const byVm = Map.groupBy(good, ({ job, vm }) => `${job} ${vm.instanceUuid}`)
    const expected: string[] = []
    for (const { name, schedule, vms } of jobs) {
      const { rpoMs } = schedule
      if (rpoMs === undefined) continue
      for (const { vm } of vms) {
        let last = YEAR.from
        for (const { begunAt, endedAt } of (byVm.get(`${name} ${vm.instanceUuid}`) ?? []).toSorted((a, b) => a.begunAt - b.begunAt)) {
          if (endedAt > last + rpoMs) expected.push(`${name} ${vm.instanceUuid} ${last + rpoMs} ${endedAt}`)
          last = begunAt
        }
        if (YEAR.to > last + rpoMs) expected.push(`${name} ${vm.instanceUuid} ${last + rpoMs} ${YEAR.to}`)
      }
    }
    expect(misses.map(({ job, vm, from, to }) => `${job} ${vm.instanceUuid} ${from} ${to}`).toSorted()).toEqual(expected.toSorted())
    expect(misses.length).toBeGreaterThan(0)
    // Where nothing went wrong nobody is late: outside the outage, the blackout and failures of the VM itself.
    const failures = Map.groupBy(
      runs.filter(({ error }) => error !== undefined),
      ({ job, vm }) => `${job} ${vm.instanceUuid}`,
    )
    const calm = misses.filter(({ job, vm, from, to }) => {
      const near = (at: number): boolean => at > from - 3 * 24 * HOUR && at < to
      const failed = failures.get(`${job} ${vm.instanceUuid}`)?.some(({ begunAt }) => near(begunAt)) === true
      return !failed && !away.some((each) => near(each.from) || near(each.to))
    })
    expect(calm.map(({ job, vm, from }) => `${job} ${vm.name} ${new Date(from).toISOString()}`)).toEqual([])
  })
})
