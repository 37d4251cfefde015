import { parse } from 'yaml'
import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { type JobConfig, jobsKeys, jobsOf } from './jobs.ts'
import type { NamedRepository } from './repositories.ts'

const repositories = ['main', 'offsite'].map((name): NamedRepository => ({ name, url: `/${name}`, password: {} }))
const read = (text: string, known: readonly NamedRepository[] = repositories): readonly JobConfig[] =>
  readSection(jobsKeys, (file) => jobsOf(file, { repositories: known }), text).jobs
const one = (text: string): JobConfig => {
  const [job] = read(`jobs: [${JSON.stringify({ name: 'j', select: '*', repository: 'main', ...(parse(text) as object | null) })}]`)
  if (job === undefined) throw new Error('no job')
  return job
}

test('a job that says nothing but its VMs: by hand only, forever incremental, nothing forgotten, the general settings', () => {
  expect(one('timeZone: UTC')).toEqual({
    name: 'j',
    select: ['*'],
    schedule: {
      timeZone: 'UTC',
      cron: [],
      rpoMs: undefined,
      full: 'first',
      windows: [],
      blackouts: [],
      priority: 0,
      retry: { attempts: 2, delayMs: 600_000, on: ['UNAVAILABLE', 'CONFLICT', 'CAPACITY'] },
    },
    repository: 'main',
    copyTo: [],
    quiesce: undefined,
    guestScripts: undefined,
    transports: undefined,
    excludeDisks: [],
    retention: undefined,
    stages: [],
    notices: [],
    apart: [],
  })
  expect(one('').schedule.timeZone).toBe(Temporal.Now.timeZoneId())
})

test('a job that says everything', () => {
  const job = one(`
cron: ["0 22 * * 1-6", "@daily"]
timeZone: Europe/Berlin
rpo: 26h
full: { cron: "0 22 * * 6" }
windows: ["mon-fri 22:00-06:00", sat]
blackouts: 2026-12-24 to 2026-12-26
priority: -3
retry: { attempts: 4, delay: 2m, on: [UNAVAILABLE, GUEST] }
copyTo: offsite
quiesce: require
guestScripts: require
transports: san:nbdssl
excludeDisks: [scsi0:3]
retention: { last: 3, daily: 14, within: 1m14d, keepTags: ["hold", "a,b"] }
stages: [{ at: preRun, command: [/usr/local/bin/hold, now], timeout: 5m }, { at: postRun, command: /bin/tell, policy: try }]
notices: [admins]
apart: [[sql1, sql2], "tag:cluster"]
`)
  expect(job.schedule).toEqual({
    timeZone: 'Europe/Berlin',
    cron: ['0 22 * * 1-6', '@daily'],
    rpoMs: 93_600_000,
    full: { cron: ['0 22 * * 6'] },
    windows: [
      { days: [1, 2, 3, 4, 5], from: 1320, to: 360 },
      { days: [6], from: 0, to: 1440 },
    ],
    blackouts: [{ from: '2026-12-24T00:00', to: '2026-12-27T00:00' }],
    priority: -3,
    retry: { attempts: 4, delayMs: 120_000, on: ['UNAVAILABLE', 'GUEST'] },
  })
  expect(job).toMatchObject({
    copyTo: ['offsite'],
    quiesce: 'require',
    guestScripts: 'require',
    transports: ['san', 'nbdssl'],
    excludeDisks: ['scsi0:3'],
    retention: { last: 3, daily: 14, within: { years: 0, months: 1, days: 14, hours: 0 }, keepTags: [['hold'], ['a', 'b']] },
    stages: [
      { at: 'preRun', command: ['/usr/local/bin/hold', 'now'], timeoutMs: 300_000, policy: 'require' },
      { at: 'postRun', command: ['/bin/tell'], timeoutMs: 60_000, policy: 'try' },
    ],
    notices: ['admins'],
    apart: [['sql1', 'sql2'], ['tag:cluster']],
  })
})

test.each([
  ['first', 'first'],
  ['always', 'always'],
  ['{ every: 7d }', { everyMs: 604_800_000 }],
  ['{ cron: [ "0 22 * * 6", "0 22 L * *" ] }', { cron: ['0 22 * * 6', '0 22 L * *'] }],
])('full: %s', (text, full) => {
  expect(one(`full: ${text}`).schedule.full).toEqual(full)
})

test('a key of a job stands instead of the same key of jobDefaults, whole', () => {
  const [own, other] = read(`
jobDefaults: { repository: offsite, timeZone: UTC, rpo: 24h, retention: { daily: 7 }, retry: { attempts: 9 }, priority: 5 }
jobs:
  - { name: own, select: a, repository: main, retention: { last: 1 }, retry: { delay: 1m } }
  - { name: other, select: b }
`)
  expect(own).toMatchObject({ repository: 'main', retention: { last: 1 }, schedule: { timeZone: 'UTC', rpoMs: 86_400_000, priority: 5 } })
  expect(own?.retention).not.toHaveProperty('daily')
  expect(own?.schedule.retry).toMatchObject({ attempts: 2, delayMs: 60_000 })
  expect(other).toMatchObject({ repository: 'offsite', retention: { daily: 7 }, schedule: { retry: { attempts: 9 } } })
})

test('points of a job that does not say go into the general repository, or the only one', () => {
  const job = 'jobs: [{ name: j, select: a }]'
  const [main] = repositories
  expect(read(job, repositories.slice(0, 1))[0]?.repository).toBe('main')
  expect(read(job, [...repositories, { ...main, name: 'default' } as NamedRepository])[0]?.repository).toBe('default')
  expect(() => read(job)).toThrow(
    expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining('which of the repositories') }),
  )
})
