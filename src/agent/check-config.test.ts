import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkConfig } from './check-config.ts'
import { formatProblem } from './config/problem.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-check-config-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function problemsOf(text: string, environment: Record<string, string> = {}): Promise<readonly string[]> {
  const config = join(directory, 'vcb.yaml')
  await writeFile(config, text)
  const { problems } = await checkConfig({ config }, environment)
  return problems.map((problem) => formatProblem(problem).replaceAll(`${directory}/`, ''))
}

test('secrets that are missing, empty, a directory, or open to others are told where they are named', async () => {
  for (const name of ['private', 'open', 'empty']) await writeFile(join(directory, name), name === 'empty' ? '' : 'secret\n')
  await mkdir(join(directory, 'folder'))
  await chmod(join(directory, 'private'), 0o600)
  await chmod(join(directory, 'open'), 0o640)
  const text = `vcenter:
  passwordFile: private
repositories:
  a: { url: /a, passwordFile: open }
  b: { url: /b, passwordFile: gone }
  c: { url: /c, passwordEnv: NOT_SET }
  d: { url: /d, passwordFile: folder }
ssh:
  hosts:
    esx1: { keyFile: empty }
`
  expect(await problemsOf(text)).toEqual([
    'vcb.yaml:4:31: repositories.a.passwordFile: open can be read or changed by others than its owner (mode 640); chmod 600 it',
    'vcb.yaml:5:31: repositories.b.passwordFile: the file gone does not exist',
    'vcb.yaml:6:30: repositories.c.passwordEnv: the environment variable NOT_SET is empty',
    'vcb.yaml:7:31: repositories.d.passwordFile: folder is not a file',
    'vcb.yaml:10:22: ssh.hosts.esx1.keyFile: empty is empty',
  ])
  expect(await problemsOf('vcenter: { passwordFile: private }', { VCB_REPO_PASSWORD_FILE: join(directory, 'open') })).toEqual([
    'vcb.yaml: the repository password: open can be read or changed by others than its owner (mode 640); chmod 600 it',
  ])
})

test('what systemd hands over is looked at in the unit, where its access list is systemd’s; outside nothing can be said of it', async () => {
  await writeFile(join(directory, 'vcb_pw'), 'secret\n', { mode: 0o440 })
  const text = 'vcenter: { passwordFile: $CREDENTIALS_DIRECTORY/vcb_pw }\nrepository: { passwordFile: $CREDENTIALS_DIRECTORY/vcb_none }\n'
  expect(await problemsOf(text)).toEqual([])
  expect(await problemsOf(text, { CREDENTIALS_DIRECTORY: directory })).toEqual([
    'vcb.yaml:2:29: repository.passwordFile: the file vcb_none does not exist',
  ])
})

test('secrets are looked at beside whatever else is wrong, and what lies over the file too', async () => {
  expect(await problemsOf('vcenter: { passwordFile: gone }\nparalel: 3\n')).toEqual([
    'vcb.yaml:1:26: vcenter.passwordFile: the file gone does not exist',
    'vcb.yaml:2:1: paralel: there is no such key; did you mean "parallel"?',
  ])
  expect(await problemsOf('parallel: 3\n', { VCB_TRANSPORT: 'pigeon' })).toEqual([
    expect.stringContaining('The value of --transport is wrong'),
  ])
})

test('a repository of the environment is the one called default', async () => {
  const text = 'jobs: [{ name: j, select: a }, { name: k, select: a, repository: default }]'
  expect(await problemsOf(text)).toHaveLength(2)
  expect(await problemsOf(text, { VCB_REPO: '/backup' })).toEqual([])
})
