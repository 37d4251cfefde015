import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConfigFlags } from './config/flags.ts'
import type { Environment } from './config/given.ts'
import { explainConfig, type ExplainedSetting } from './explain-config.ts'

let config: string
beforeAll(async () => {
  config = join(await mkdtemp(join(tmpdir(), 'vcb-explain-')), 'vcb.yaml')
  await writeFile(
    config,
    `vcenter:
  url: https://file
  user: of-the-file
  passwordFile: pw
quiesce: require
datastores:
  one: /mnt/one
repositories:
  main: { url: /backup }
jobDefaults:
  retention: { daily: 14, within: 30d }
  rpo: 26h
jobs:
  - name: nightly
    select: ["web*", "!web-test"]
    cron: "0 22 * * *"
    rpo: 24h
    windows: mon-fri 22:00-06:00
    transports: [san, nbdssl]
    guestScripts: false
`,
  )
})
afterAll(() => rm(join(config, '..'), { recursive: true, force: true }))

/** Each setting as `value < where`, by its key. */
async function explained(job?: string, flags: ConfigFlags = {}, environment: Environment = {}): Promise<Record<string, string>> {
  const { settings } = await explainConfig({ config, ...flags }, environment, job)
  const where = ({ origins }: ExplainedSetting): string =>
    origins
      .map((origin) =>
        origin.from === 'file'
          ? `${origin.line}${origin.section === undefined ? '' : ` ${origin.section}`}`
          : 'name' in origin
            ? `${origin.from} ${origin.name}`
            : origin.from,
      )
      .join(' + ')
  return Object.fromEntries(settings.map((each) => [each.key, `${each.value ?? '-'} < ${where(each)}`]))
}

test('the general settings: flag before environment, environment before file, file before default', async () => {
  const environment = {
    VCB_USER: 'of-the-environment',
    VCB_VCENTER: 'https://environment',
    VCB_DATASTORES: 'two=/mnt/two',
    VCB_REPO_PASSWORD: 'hunter2',
  }
  const all = await explained(undefined, { vcenter: 'https://flag', spaceGuard: false, changeTracking: true }, environment)
  expect(all).toMatchObject({
    'vcenter.url': 'https://flag < flag --vcenter',
    'vcenter.user': 'of-the-environment < environment VCB_USER',
    'vcenter.passwordFile': expect.stringMatching(/^in \/.*\/pw < 4$/),
    'vcenter.thumbprint': '- < default',
    quiesce: 'require < 5',
    datastores: 'one=/mnt/one, two=/mnt/two < environment VCB_DATASTORES + 6',
    'space.guard': 'no < flag --no-space-guard',
    changeTracking: 'yes < default',
    parallel: '2 < default',
    'repository.passwordFile': 'in the variable VCB_REPO_PASSWORD < environment VCB_REPO_PASSWORD',
    repositories: 'main = /backup < 8',
    'limits.snapshotsPerDatastore': '4 < default',
    cancelDeadline: '10m < default',
  })
  expect(JSON.stringify(all)).not.toContain('hunter2')
})

test('a job: its own keys, those of jobDefaults, the general settings it leaves as they are, and defaults', async () => {
  expect(await explained('nightly', {}, {})).toEqual({
    name: 'nightly < 14',
    select: 'web* !web-test < 15',
    cron: '0 22 * * * < 16',
    timeZone: `${Temporal.Now.timeZoneId()} < default`,
    rpo: '1d < 17',
    full: 'first: incremental for ever < default',
    windows: 'mon-fri 22:00-06:00 < 18',
    blackouts: 'none < default',
    priority: '0 < default',
    retry: '2 times, first after 10m, on UNAVAILABLE, CONFLICT, CAPACITY < default',
    repository: 'main = /backup < default',
    copyTo: 'none < default',
    quiesce: 'require < 5 general quiesce',
    guestScripts: 'none are run < 20',
    transports: 'san:nbdssl < 19',
    excludeDisks: 'none < default',
    retention: 'daily 14, within 30d < 11 jobDefaults',
    stages: 'none < default',
    notices: 'nobody < default',
    apart: 'none < default',
  })
  expect((await explained('nightly', { quiesce: 'none' }))['quiesce']).toBe('none < flag --quiesce')
})

test('a job there is not, and a wrong file', async () => {
  await expect(explained('nigtly')).rejects.toMatchObject({ code: 'NOT_FOUND', next: 'Did you mean "nightly"?' })
  const wrong = `${config}.wrong`
  await writeFile(wrong, 'paralel: 1\n')
  await expect(explainConfig({ config: wrong }, {})).rejects.toMatchObject({
    code: 'CONFIG',
    message: expect.stringContaining('did you mean "parallel"'),
  })
})
