import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inspectConfig, loadConfig } from './config.ts'
import { formatProblem } from './problem.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-problems-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function problemsOf(text: string): Promise<readonly string[]> {
  const config = join(directory, 'vcb.yaml')
  await writeFile(config, text)
  const { problems } = await inspectConfig({ config }, {})
  return problems.map((problem) => formatProblem(problem).replace(`${directory}/`, ''))
}

test('everything that is wrong is told at once, with its place and what was meant', async () => {
  expect(
    await problemsOf(`vcentre: { url: https://vc }
limits:
  snapshotPerDatastore: 2
  streamsPerDatastore: 0
repositories:
  main: { url: /backup }
  off site: { url: /other }
jobDefaults:
  timeZone: Europe/Berln
  retry: { on: UNAVAILBLE }
jobs:
  - name: nightly
    select: ["web*", "!"]
    cron: "0 25 * * *"
    rpo: soon
    quiese: try
    quiesce: maybe
    full: { cron: "0 22 * *" }
    windows:
      - mon-fir 22:00-06:00
      - 25:00-26:00
    blackouts: 2026-13-01
    repository: mian
    copyTo: [main, offsite]
    retention: { dayly: 7 }
    stages:
      - { at: preeRun, command: do }
    notices: admins
  - name: nightly
    select: db
    full: sometimes
    transports: [san, nbdsll]
    retention: { last: 0 }
    apart: [[sql1, "tag:"]]
  - select: x
`),
  ).toMatchInlineSnapshot(`
    [
      "vcb.yaml:1:1: vcentre: there is no such key; did you mean "vcenter"?",
      "vcb.yaml:3:3: limits.snapshotPerDatastore: there is no such key; did you mean "snapshotsPerDatastore"?",
      "vcb.yaml:4:24: limits.streamsPerDatastore: too small: expected number to be >=1",
      "vcb.yaml:7:3: repositories.off site: a name is letters, digits, _, . and -, at most 64, and begins with a letter or digit",
      "vcb.yaml:9:13: jobDefaults.timeZone: "Europe/Berln" is not a time zone; did you mean "Europe/Berlin"? Write it like Europe/Berlin, UTC or +05:45",
      "vcb.yaml:10:16: jobDefaults.retry.on: it is not one of INTERNAL, USAGE, CONFIG, AUTH, NOT_FOUND, CONFLICT, UNAVAILABLE, GUEST, INTEGRITY, CAPACITY, CANCELED; did you mean "UNAVAILABLE"?",
      "vcb.yaml:13:22: jobs[0].select[1]: The selection "!" names nothing. Write a VM name, a pattern like web*, or folder:, tag:, uuid:, moref:, ip:, power:; commas or blanks separate several",
      "vcb.yaml:14:11: jobs[0].cron: "0 25 * * *" says no moments: Invalid value for hour: 25. Write five fields, minute hour day month weekday: "0 22 * * 1-5" is 22:00 from Monday to Friday",
      "vcb.yaml:15:10: jobs[0].rpo: "soon" is not a time from 1m to 366d; write 500ms, 90s, 2m or 1h",
      "vcb.yaml:16:5: jobs[0].quiese: there is no such key; did you mean "quiesce"?",
      "vcb.yaml:17:14: jobs[0].quiesce: it is not one of require, try, none",
      "vcb.yaml:18:19: jobs[0].full.cron: "0 22 * *" says no moments: invalid configuration format ('0 22 * *'), exactly five, six, or seven space separated parts are required. Write five fields, minute hour day month weekday: "0 22 * * 1-5" is 22:00 from Monday to Friday",
      "vcb.yaml:20:9: jobs[0].windows[0]: "mon-fir 22:00-06:00" is not a window: "fir" is no day; did you mean "fri"? Write it like "mon-fri 22:00-06:00", "sat,sun" or "22:00-06:00"",
      "vcb.yaml:21:9: jobs[0].windows[1]: "25:00-26:00" is not a window: "25:00" is no time of day. Write it like "mon-fri 22:00-06:00", "sat,sun" or "22:00-06:00"",
      "vcb.yaml:22:16: jobs[0].blackouts: "2026-13-01" is not a blackout: "2026-13-01" is no date. Write it like "2026-12-24 to 2026-12-26" or "2026-12-24T18:00 to 2026-12-27T08:00", in the time zone of the job",
      "vcb.yaml:23:17: jobs[0].repository: there is no repository "mian"; did you mean "main"?",
      "vcb.yaml:24:20: jobs[0].copyTo[1]: there is no repository "offsite"; did you mean "off site"?",
      "vcb.yaml:25:16: jobs[0].retention: it keeps nothing; say how much, with last, hourly, daily, weekly, monthly, yearly, within or keepTags",
      "vcb.yaml:25:18: jobs[0].retention.dayly: there is no such key; did you mean "daily"?",
      "vcb.yaml:27:15: jobs[0].stages[0].at: it is not one of preRun, preSnapshot, postSnapshot, postStore, postRun; did you mean "preRun"?",
      "vcb.yaml:27:33: jobs[0].stages[0].command: a program of the proxy is named by an absolute path, its arguments in a list after it",
      "vcb.yaml:28:14: jobs[0].notices: there is no notice "admins"",
      "vcb.yaml:29:5: jobs[1]: it does not say into which of the repositories",
      "vcb.yaml:29:11: jobs[1].name: jobs[0] has the name "nightly" already",
      "vcb.yaml:31:11: jobs[1].full: it is first, always, { cron: "0 22 * * 6" } or { every: 7d }",
      "vcb.yaml:32:23: jobs[1].transports[1]: "nbdsll" is not a transport; known are san, hotadd, nbdssl, nbd, https, lease, ssh, vddk; did you mean "nbdssl"?",
      "vcb.yaml:33:16: jobs[1].retention: it keeps nothing; say how much, with last, hourly, daily, weekly, monthly, yearly, within or keepTags",
      "vcb.yaml:34:20: jobs[1].apart[0][1]: The selection "tag:" names nothing. Write a VM name, a pattern like web*, or folder:, tag:, uuid:, moref:, ip:, power:; commas or blanks separate several",
      "vcb.yaml:35:5: jobs[2].name: it is missing",
      "vcb.yaml:35:5: jobs[2]: it does not say into which of the repositories",
    ]
  `)
})

test('broken YAML and duplicate keys are told with their places', async () => {
  expect(await problemsOf('a: 1\na: 2\nb: [\n')).toMatchInlineSnapshot(`
    [
      "vcb.yaml:2:1: it is not valid YAML: Map keys must be unique",
      "vcb.yaml:4:1: it is not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]",
    ]
  `)
})

test('a command that needs the file says the first ten in one sentence', async () => {
  const config = join(directory, 'many.yaml')
  await writeFile(config, Array.from({ length: 12 }, (_, index) => `wrong${index}: 1\n`).join(''))
  await expect(loadConfig({ config }, {})).rejects.toMatchObject({
    code: 'CONFIG',
    message: expect.stringMatching(/many\.yaml is wrong: 1:1: wrong0: there is no such key; 2:1: .*; and 2 more\.$/),
  })
})

test('an alias tells the place where it stands', async () => {
  expect(await problemsOf('limits: &a { streamsPerDatastore: x }\nnfc: *a\n')).toMatchInlineSnapshot(`
    [
      "vcb.yaml:1:35: limits.streamsPerDatastore: expected number, received string",
      "vcb.yaml:2:1: nfc.streamsPerDatastore: there is no such key",
    ]
  `)
})
