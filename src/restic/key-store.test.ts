import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { AgentError, Secret, silentLog, systemClock } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { directoryBackend } from './directory-backend.ts'
import { RANDOM_KDF } from './key-file.ts'
import { initRepository, openRepository } from './open-repository.ts'
import type { Repository, RepositoryDeps } from './repository.ts'

const deps: RepositoryDeps = {
  clock: { ...systemClock, sleep: (_ms, options) => systemClock.sleep(0, options) },
  log: silentLog,
  random: randomBytes,
  hostname: 'proxy',
  username: 'vcb',
  pid: process.pid,
}

let directory: string
let backend: Backend
let repository: Repository
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-keys-'))
  backend = directoryBackend(directory)
  repository = await initRepository(backend, new Secret('typed'), deps, { kdf: { N: 1024, r: 8, p: 1 } })
})
afterEach(async () => {
  await repository[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

const open = (password: string): Promise<Repository> => openRepository(backend, new Secret(password), deps)
const names = (): Promise<string[]> => readdir(join(directory, 'keys'))

test('a random password is kept before its key is there, is 256 bits on one line, and opens the same repository', async () => {
  const kept: { password: string; id: string; there: string[] }[] = []
  const added = await repository.keys.addRandom(async (password, id) => {
    kept.push({ password: password.reveal(), id, there: await names() })
    return password
  })
  const [{ password, id, there } = { password: '', id: '', there: [] }] = kept
  expect(there).toHaveLength(1)
  expect(Buffer.from(password, 'base64url')).toHaveLength(32)
  expect(added).toEqual({ id, created: expect.stringContaining('T'), username: 'vcb', hostname: 'proxy', kdf: RANDOM_KDF })
  await using other = await open(password)
  expect(other.id).toBe(repository.id)
  expect((await other.keys.list()).filter(({ current }) => current)).toEqual([{ id, current: true, facts: added }])
  expect(await readFile(join(directory, 'keys', id), 'utf8')).not.toContain(password)
  expect(await readdir(join(directory, 'locks'))).toEqual([])
})

test('two random passwords are never the same', async () => {
  const made: string[] = []
  for (let time = 0; time < 3; time++)
    await repository.keys.addRandom(async (password) => {
      made.push(password.reveal())
      return password
    })
  expect(new Set(made).size).toBe(3)
})

test('what cannot be kept gets no key, and no lock stays', async () => {
  const full = new AgentError('CAPACITY', 'The disk is full.')
  await expect(repository.keys.addRandom(() => Promise.reject(full))).rejects.toBe(full)
  expect(await names()).toHaveLength(1)
  expect(await readdir(join(directory, 'locks'))).toEqual([])
})

test('a password that was kept as another one costs its key', async () => {
  await expect(repository.keys.addRandom(async () => new Secret('torn'))).rejects.toMatchObject({
    code: 'INTEGRITY',
    message: expect.stringContaining('does not open with its password'),
  })
  expect(await names()).toHaveLength(1)
})

test('a typed password has all the cost, its id is told first, and an empty one is refused', async () => {
  let told = ''
  const { id, kdf } = await repository.keys.add(new Secret('second'), {
    recordKey: async (name) => {
      told = name
      expect(await names()).toHaveLength(1)
    },
  })
  expect(kdf.N * kdf.r * kdf.p).toBeGreaterThanOrEqual(32_768 * 8 * 5)
  expect(told).toBe(id)
  await expect(repository.keys.add(new Secret(''))).rejects.toMatchObject({ code: 'CONFIG' })
})

test('a key is removed by the beginning of its id, and opens nothing then', async () => {
  let password = new Secret('')
  const { id } = await repository.keys.addRandom(async (made) => (password = made))
  expect(await repository.keys.remove(id.slice(0, 8))).toBe(id)
  await expect(open(password.reveal())).rejects.toMatchObject({ code: 'AUTH' })
  await expect(repository.keys.remove(id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('the key in use is not removed, nor any once that one is gone, so the last one never', async () => {
  let password = new Secret('')
  const { id } = await repository.keys.addRandom(async (made) => (password = made))
  const typed = (await names()).find((name) => name !== id) ?? ''
  await expect(repository.keys.remove(typed)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('is the one that'),
  })
  {
    await using other = await open(password.reveal())
    await other.keys.remove(typed)
  }
  await expect(repository.keys.remove(id)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('has been removed') })
  expect(await names()).toEqual([id])
})

test('an id is asked for that is none, or too short, or of several', async () => {
  for (const id of ['', 'abcde', '../config', 'ABCDEF'])
    await expect(repository.keys.remove(id)).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('is no id of a key') })
  for (const end of ['0', '1']) await writeFile(join(directory, 'keys', `abcdef${end.repeat(58)}`), '{}')
  await expect(repository.keys.remove('abcdef')).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('several keys') })
  expect(await repository.keys.remove('abcdef0')).toBe(`abcdef${'0'.repeat(58)}`)
  expect((await repository.keys.list()).find(({ id }) => id.startsWith('abcdef1'))).toMatchObject({
    problem: expect.stringContaining('its key derivation undefined is not known'),
  })
})

test('a key is added beside a writer, and removed by nobody there', async () => {
  const { id } = await repository.keys.addRandom(async (made) => made)
  await using _writer = await repository.beginWrite()
  await repository.keys.addRandom(async (made) => made)
  await expect(repository.keys.remove(id)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('is locked') })
  expect(await names()).toHaveLength(3)
})
