import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* `vcb jobs` and `vcb plan`: the jobs of a file, with the VMs a vCenter has and what was backed up before. */

const vm = (name: string, datastore = 'ds1') => ({ name, datastore, changeTracking: true, disks: [{ size: '4MiB', content: 'random' }] })
const scenario = {
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'ds1', type: 'NFS' },
        { name: 'ds2', type: 'NFS' },
      ],
      vms: [vm('web1'), vm('web2'), vm('sql1', 'ds2'), vm('sql2', 'ds1'), vm('other')],
    },
  ],
}

const FILE = `
jobDefaults: { timeZone: UTC }
jobs:
  - name: web
    select: ["web*", sql2]
    cron: "0 22 * * 0-5"
    full: { cron: "0 22 * * 6" }
    windows: 22:00-06:00
  - name: sql
    select: sql*
    rpo: 24h
    apart: [[sql1, sql2]]
  - name: gone
    select: nothing-of-this-name
    cron: "0 1 * * *"
  - name: hand
    select: other
`

let session: LabSession
let config: string
/** Of the two backups made at the beginning. */
let backedUp: Json
beforeAll(async () => {
  session = await openLabSession({ scenario })
  config = join(session.directory, 'vcb.yaml')
  await writeFile(config, FILE)
  backedUp = await session.json(['backup', 'web1', '--init'])
})
afterAll(() => session[Symbol.asyncDispose]())

const json = (...argv: readonly string[]): Promise<Json> => session.json([...argv, '--config', config])
const names = (all: Json): string[] => all.map((each: Json) => each.vm.name).toSorted()

test('vcb jobs tells the jobs without asking vCenter', async () => {
  const { exit, out } = await session.vcbWith({ VCB_VCENTER: 'https://127.0.0.1:1' }, 'jobs', '--config', config, '--time-zone', 'UTC')
  expect([exit, out.split('\n').map((line) => line.split(/\s{2,}/))]).toEqual([
    0,
    expect.arrayContaining([
      ['JOB', 'SELECTS', 'NEXT', 'RPO', 'WINDOWS', 'REPOSITORY'],
      ['web', 'web* sql2', expect.stringMatching(/^\d{4}-\d\d-\d\d 22:00$/), '-', '22:00-06:00 UTC', 'default'],
      ['sql', 'sql*', expect.stringMatching(/^\d{4}-/), '1 d', 'always', 'default'],
      ['hand', 'other', 'when asked to', '-', 'always', 'default'],
    ]),
  ])
})

test('vcb jobs --vms resolves each selection, with what is known of each VM', async () => {
  const { jobs } = await json('jobs', '--vms')
  const [web, sql, gone, hand] = jobs
  expect(names(web.vms)).toEqual(['sql2', 'web1', 'web2'])
  const of = (job: Json, name: string): Json => job.vms.find((each: Json) => each.vm.name === name)
  const { time } = backedUp.vms[0]
  // By this proxy's clock: the run began a moment before its snapshot was taken.
  const { lastGoodAt } = of(web, 'web1')
  expect(Date.parse(time) - Date.parse(lastGoodAt)).toBeGreaterThanOrEqual(0)
  expect(Date.parse(time) - Date.parse(lastGoodAt)).toBeLessThan(60_000)
  expect(of(web, 'web1')).toMatchObject({ mode: expect.any(String), reason: expect.any(String) })
  expect(of(web, 'web2')).not.toHaveProperty('lastGoodAt')
  expect(of(web, 'web2').reason).toContain('there is no full point yet')
  expect(of(sql, 'sql1')).toMatchObject({ mode: 'full', reason: expect.stringContaining('it has no good point yet') })
  expect(of(sql, 'sql1')).not.toHaveProperty('deadline')
  expect(gone).toMatchObject({ vms: [], error: { code: 'NOT_FOUND', message: expect.stringContaining('nothing-of-this-name') } })
  expect(hand.vms).toEqual([{ vm: expect.objectContaining({ name: 'other' }) }])
  expect(hand).not.toHaveProperty('next')
  const { out } = await session.vcb('jobs', '--vms', '--config', config)
  expect(out).toContain('web: 3 VMs')
  expect(out).toMatch(/sql1 +none +NO GOOD POINT +now +full/)
  expect(out).toContain('gone: "nothing-of-this-name" matches no VM')
})

test('a job that is not there: what was meant', async () => {
  const { exit, err } = await session.vcb('jobs', 'wbe', '--config', config)
  expect([exit, err]).toEqual([5, 'vcb: There is no job "wbe".\n     Did you mean "web"?\n'])
  expect((await session.vcb('jobs')).err).toContain('The configuration has no jobs.')
})

test('vcb plan: what runs when, by the history of each VM', async () => {
  const plan = await json('plan', '--to', '8d', '--incremental-takes', '30m')
  const of = (job: string, name: string): Json[] => plan.runs.filter((run: Json) => run.job === job && run.vm.name === name)
  // web1 has its full point: the nights go on from it; web2 begins with one.
  expect(of('web', 'web2')[0].mode).toBe('full')
  const saturdays = of('web', 'web1').filter((run) => new Date(run.begunAt).getUTCDay() === 6 && run.mode === 'full')
  expect(saturdays.length).toBeGreaterThanOrEqual(1)
  expect(of('web', 'web1').filter((run) => run.mode === 'incremental').length).toBeGreaterThanOrEqual(5)
  for (const run of plan.runs.filter(({ job }: Json) => job === 'web')) {
    const hour = new Date(run.begunAt).getUTCHours()
    expect(hour >= 22 || hour < 6, run.begunAt).toBe(true)
  }
  // Two of a group never at once.
  const sql: Json[] = plan.runs.filter(({ job }: Json) => job === 'sql').toSorted((a: Json, b: Json) => (a.begunAt < b.begunAt ? -1 : 1))
  expect(names(sql.slice(0, 2))).toEqual(['sql1', 'sql2'])
  for (const [index, run] of sql.entries()) if (index > 0) expect(run.begunAt >= sql[index - 1].endedAt).toBe(true)
  expect(plan.misses).toEqual([])
  expect(plan.empty).toEqual([{ job: 'gone', error: expect.objectContaining({ code: 'NOT_FOUND' }) }])
  expect(plan.assumed).toEqual([
    '4 VMs were never backed up, because the catalog of this proxy knows no point of them',
    'a full run takes 60 min for 3 VMs of which no such run is known',
    'an incremental run takes 30 min for 4 VMs of which no such run is known',
    'every run succeeds',
  ])
  // The one full run that was made says how long the next ones take: seconds.
  const took = Date.parse(saturdays[0].endedAt) - Date.parse(saturdays[0].begunAt)
  expect(took).toBeGreaterThan(0)
  expect(took).toBeLessThan(60_000)
})

test('vcb plan --job and --vm show a part; the others count all the same', async () => {
  const whole = await json('plan', '--to', '3d')
  const part = await json('plan', '--to', '3d', '--job', 'web', '--vm', 'web1')
  expect(part.runs.length).toBeGreaterThan(0)
  const begins = (plan: Json): number[] =>
    plan.runs.filter(({ job, vm: { name } }: Json) => job === 'web' && name === 'web1').map(({ begunAt }: Json) => Date.parse(begunAt))
  expect(begins(part)).toHaveLength(part.runs.length)
  expect(begins(part)).toHaveLength(begins(whole).length)
  // Each plan begins at its own now, and so do runs that wait for one of those that begin now.
  for (const [index, begunAt] of begins(part).entries()) expect(Math.abs(begunAt - (begins(whole)[index] ?? 0))).toBeLessThan(60_000)
  expect(part.empty).toEqual([])
})

test('vcb plan --offline: missed RPOs and runs that do not fit come first, without a vCenter', async () => {
  const narrow = join(session.directory, 'narrow.yaml')
  await writeFile(
    narrow,
    'repository: { url: /nowhere }\njobs:\n  - { name: night, select: "*", cron: "0 1 * * *", windows: "01:00-02:00", rpo: 25h, timeZone: Europe/Berlin }\n',
  )
  const argv = ['plan', '--config', narrow, '--from', '2026-07-01', '--to', '2026-07-05', '--offline', '3', '--time-zone', 'Europe/Berlin']
  const environment = { VCB_STATE_DIR: session.environment['VCB_STATE_DIR'] ?? '', VCB_VCENTER: 'https://127.0.0.1:1' }
  const { exit, out } = await session.vcbWith(environment, ...argv, '--full-takes', '90m', '--incremental-takes', '40m')
  const titles = out.split('\n').filter((line) => /^[A-Z]+(?: [A-Z]+)*$/.test(line))
  expect([exit, titles]).toEqual([0, ['RPO MISSED', 'DOES NOT FIT ITS WINDOW', 'RUNS']])
  expect(out).toContain('2026-07-01 01:00  2026-07-01 02:30  2026-07-01 02:00')
  expect(out).toContain('Assumed: each job has 3 VMs without an earlier backup')
  // Two at a time; the third finds the window closed, and its RPO is missed.
  expect(out).toMatch(/night +night-3 +2026-07-02 01:00 +2026-07-02/)
})

test.each([
  [['--from', '2026-13-01'], 'is not a moment'],
  [['--from', '2026-07-02', '--to', '2026-07-01'], 'to end after it begins'],
  [['--to', '500d'], 'not more than 400 days'],
  [['--offline', 'many'], 'takes a number of VMs'],
  [['--offline', '1', '--vm', 'web1'], 'names no VM'],
  [['--full-takes', 'long'], '--full-takes'],
  [['--time-zone', 'Europe/Atlantis'], 'Atlantis'],
])('vcb plan %j is USAGE', async (argv, message) => {
  const { exit, err } = await session.vcb('plan', '--config', config, ...argv)
  expect([exit, err]).toEqual([2, expect.stringContaining(message)])
})

test('a plan of more runs than anybody reads is refused before it is made', async () => {
  const often = join(session.directory, 'often.yaml')
  await writeFile(often, 'repository: { url: /nowhere }\njobs:\n  - { name: often, select: "*", cron: "* * * * *" }\n')
  const { exit, err } = await session.vcb('plan', '--config', often, '--offline', '1000', '--to', '365d')
  expect([exit, err]).toEqual([2, expect.stringContaining('more than 2000000 runs')])
})

test('nothing was changed by looking', () => session.expectClean())
