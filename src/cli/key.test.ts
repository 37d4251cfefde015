import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Secret, silentLog, systemClock } from '../core/index.ts'
import { directoryBackend, initRepository } from '../restic/index.ts'
import { main } from './main.ts'

let directory: string
let repository: string
const inside = (name: string): string => join(directory, name)
const keys = (): Promise<string[]> => readdir(join(repository, 'keys'))

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-key-'))
  repository = inside('repo')
  await writeFile(inside('typed'), 'made up by somebody\n')
  await writeFile(inside('wrong'), 'made up by nobody\n')
  const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'elsewhere', username: 'somebody', pid: 1 }
  const kdf = { N: 1024, r: 8, p: 1 }
  await using _made = await initRepository(directoryBackend(repository), new Secret('made up by somebody'), deps, { kdf })
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function vcb(password: string, ...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const said = { out: '', err: '' }
  const where = ['--state-dir', inside('state'), '--log-file', inside('log'), '--log-level', 'debug']
  const repo = argv.includes('--repo') ? [] : ['--repo', repository]
  const status = await main([...argv, ...repo, '--repo-password-file', inside(password), ...where], {
    environment: {},
    out: (text) => void (said.out += text),
    err: (text) => void (said.err += text),
    interactive: false,
    signal: new AbortController().signal,
  })
  return { status, ...said }
}

type Listed = { id: string; current: boolean; facts?: { hostname: string; kdf: object }; problem?: string }
const list = async (password: string): Promise<readonly Listed[]> =>
  (JSON.parse((await vcb(password, 'key', 'list', '--json')).out) as { keys: readonly Listed[] }).keys

test('a key of random bits is added with its file, listed, used, and removed; its password stands nowhere else', async () => {
  const added = await vcb('typed', 'key', 'add', '--random', inside('random'))
  expect(added).toMatchObject({ status: 0, err: '' })
  const text = await readFile(inside('random'), 'utf8')
  expect(text).toMatch(/^[\w-]{43}\n$/u)
  expect((await stat(inside('random'))).mode & 0o777).toBe(0o600)
  const [ours, typed] = [(await list('random')).find(({ current }) => current), (await list('typed')).find(({ current }) => current)]
  expect(ours?.facts).toMatchObject({ kdf: { N: 16, r: 8, p: 1 } })
  expect(typed?.facts).toMatchObject({ hostname: 'elsewhere', kdf: { N: 1024, r: 8, p: 1 } })
  expect(added.out).toContain(`The key ${ours?.id.slice(0, 8)} opens restic:${repository} as well.`)
  const shown = await vcb('random', 'key', 'list')
  expect(shown.out).toMatch(new RegExp(`^\\* +${ours?.id.slice(0, 8)} .*scrypt N=16 r=8 p=1, 16.0 KiB$`, 'mu'))
  expect(shown.out).toMatch(new RegExp(`^ +${typed?.id.slice(0, 8)} .*somebody@elsewhere +scrypt N=1024 r=8 p=1, 1.0 MiB$`, 'mu'))
  expect(await vcb('typed', 'key', 'remove', ours?.id.slice(0, 8) ?? '')).toMatchObject({ status: 0, err: '' })
  expect(await vcb('random', 'key', 'list')).toMatchObject({ status: 4, err: expect.stringContaining('does not open the repository') })
  for (const name of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!name.isFile() || name.name === 'random') continue
    expect(await readFile(join(name.parentPath, name.name), 'latin1'), name.name).not.toContain(text.trim())
  }
  expect(added.out + shown.out).not.toContain(text.trim())
})

test('a typed password is added with the cost of one, on one condition: it is in a file', async () => {
  await writeFile(inside('second'), 'a second one\n')
  const added = await vcb('typed', 'key', 'add', '--password-file', inside('second'), '--json')
  expect(JSON.parse(added.out)).toMatchObject({ repository: `restic:${repository}`, key: { kdf: { N: 32_768, r: 8, p: 6 } } })
  expect((await list('second')).filter(({ current }) => current)).toMatchObject([{ id: JSON.parse(added.out).key.id }])
  await writeFile(inside('empty'), '\n')
  expect((await vcb('typed', 'key', 'add', '--password-file', inside('empty'))).status).toBe(3)
  expect(await keys()).toHaveLength(2)
})

test('a file that is there is neither written nor removed, whatever it is', async () => {
  await writeFile(inside('there'), '')
  await symlink(inside('nowhere'), inside('dangling'))
  for (const name of ['there', 'dangling', 'repo']) {
    expect(await vcb('typed', 'key', 'add', '--random', inside(name))).toMatchObject({
      status: 6,
      err: expect.stringContaining('is never written over another one'),
    })
  }
  expect(await readdir(directory)).toEqual(expect.arrayContaining(['there', 'dangling', 'repo']))
  expect(await readdir(directory)).not.toContain('nowhere')
  expect(await keys()).toHaveLength(1)
})

test('where the file cannot be written there is no key, and where the password is wrong no file', async () => {
  expect(await vcb('typed', 'key', 'add', '--random', inside('no/such/place'))).toMatchObject({ status: 5 })
  expect(await vcb('wrong', 'key', 'add', '--random', inside('random'))).toMatchObject({ status: 4 })
  expect(await readdir(directory)).not.toContain('random')
  expect(await keys()).toHaveLength(1)
})

test('the key in use is not removed, nor one that is not there', async () => {
  const [only] = await keys()
  expect(await vcb('typed', 'key', 'remove', only ?? '')).toMatchObject({
    status: 6,
    err: expect.stringContaining('is the one that this command'),
  })
  expect(await vcb('typed', 'key', 'remove', '0123456789')).toMatchObject({
    status: 5,
    err: expect.stringContaining('has no key 0123456789'),
  })
  expect(await vcb('typed', 'key', 'remove', 'xyz')).toMatchObject({ status: 2, err: expect.stringContaining('is no id of a key') })
  expect(await keys()).toEqual([only])
  expect(await readdir(join(repository, 'locks'))).toEqual([])
})

test.each([
  ['none of the two', []],
  ['both', ['--random', '/tmp/x', '--password-file', '/tmp/y']],
  ['random bits for standard output', ['--random', '-']],
])('a new key with %s is refused', async (_what, argv) => {
  expect(await vcb('typed', 'key', 'add', ...argv)).toMatchObject({ status: 2, err: expect.stringContaining('one password') })
})

test('a destination without keys is told', async () => {
  const told = await vcb('typed', 'key', 'list', '--repo', `dir:${directory}`)
  expect(told).toMatchObject({ status: 2, err: expect.stringContaining('has no keys that vcb knows of') })
})
