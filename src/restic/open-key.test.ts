import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AgentError, type Log, Secret, silentLog, systemClock } from '../core/index.ts'
import type { Backend, FileKind, FileRef } from './backend.ts'
import { sealKeyFile } from './key-file.ts'
import { loadKeyFiles, openKeyFile } from './open-key.ts'
import type { KdfParameters, RepositoryDeps } from './repository.ts'
import { sealKeyFrom } from './sealing.ts'

const CHEAP = { N: 2, r: 1, p: 1 }
const DEAR = { N: 64, r: 4, p: 2 }
const master = sealKeyFrom(randomBytes(64))
const deps: RepositoryDeps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'proxy', username: 'vcb', pid: 1 }

/** Key files in memory, in the order in which they were added. */
class Keys implements Backend {
  readonly url = 'memory'
  readonly files = new Map<string, Buffer | AgentError>()
  loads = 0
  most = 0
  #loading = 0

  async add(password: string, kdf: KdfParameters, by: Partial<RepositoryDeps> = {}): Promise<string> {
    const { name, bytes } = await sealKeyFile(master, new Secret(password), { ...deps, ...by }, kdf)
    this.files.set(name, bytes)
    return name
  }

  async load({ name }: FileRef): Promise<Buffer> {
    this.loads++
    this.most = Math.max(this.most, ++this.#loading)
    await systemClock.sleep(0)
    this.#loading--
    const found = this.files.get(name) ?? new AgentError('NOT_FOUND', `${name} does not exist.`)
    if (found instanceof AgentError) throw found
    return found
  }

  async *list(_kind: FileKind): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    for (const [name, file] of Array.from(this.files)) yield { name, size: file instanceof AgentError ? 0 : file.length }
  }

  async save(): Promise<void> {}

  async stat(): Promise<undefined> {
    return undefined
  }

  async remove(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

const open = (keys: Keys, password = 'ours', log: Log = silentLog): ReturnType<typeof openKeyFile> =>
  openKeyFile(keys, new Secret(password), { ...deps, log })

test('whatever the keys and their order, the cheapest that the password opens is the one, with the right master key', async () => {
  const kdf = fc.record({ N: fc.constantFrom(2, 4, 16), r: fc.constantFrom(1, 2), p: fc.constantFrom(1, 3) })
  const key = fc.record({ kdf, password: fc.constantFrom('ours', 'another'), hostname: fc.constantFrom('proxy', 'elsewhere') })
  await fc.assert(
    fc.asyncProperty(fc.array(key, { minLength: 1, maxLength: 20 }), async (wanted) => {
      const keys = new Keys()
      const ranked: { readonly name: string; readonly rank: number }[] = []
      for (const [at, { kdf: cost, password, hostname }] of wanted.entries()) {
        const name = await keys.add(password, cost, { hostname })
        if (password === 'ours') ranked.push({ name, rank: cost.N * cost.r * cost.p * 1000 + (hostname === 'proxy' ? 0 : 100) + at })
      }
      const [first] = ranked.toSorted((a, b) => a.rank - b.rank)
      if (first === undefined) await expect(open(keys)).rejects.toMatchObject({ code: 'AUTH' })
      else {
        const opened = await open(keys)
        expect(opened.id).toBe(first.name)
        expect(Buffer.concat([opened.master.encrypt, opened.master.k, opened.master.r])).toEqual(
          Buffer.concat([master.encrypt, master.k, master.r]),
        )
      }
    }),
    { numRuns: 40 },
  )
})

test('of equal ones that of this machine and user is tried first, then that of this machine', async () => {
  const keys = new Keys()
  const ids: string[] = []
  for (const by of [{ hostname: 'elsewhere', username: 'root' }, { hostname: 'elsewhere' }, { username: 'root' }, {}])
    ids.push(await keys.add('ours', DEAR, by))
  for (const id of ids.toReversed()) {
    expect((await open(keys)).id).toBe(id)
    keys.files.delete(id)
  }
})

test('key files are loaded once each, several at a time, and one alone as before', async () => {
  const keys = new Keys()
  await keys.add('ours', DEAR)
  await open(keys)
  expect(keys).toMatchObject({ loads: 1, most: 1 })
  for (let more = 0; more < 19; more++) await keys.add(`of ${more}`, CHEAP)
  await open(keys)
  expect(keys).toMatchObject({ loads: 21, most: 5 })
})

test('a key beyond the first twenty is not tried', async () => {
  const keys = new Keys()
  for (let more = 0; more < 20; more++) await keys.add(`of ${more}`, CHEAP)
  await keys.add('ours', CHEAP)
  await expect(open(keys)).rejects.toMatchObject({ code: 'AUTH', message: expect.stringContaining('none of the first 20 keys') })
  expect(await loadKeyFiles(keys)).toMatchObject({ more: true })
  keys.files.delete([...keys.files.keys()][3] ?? '')
  expect((await open(keys)).master).toEqual(master)
})

test('a wrong password is AUTH, no key file NOT_FOUND', async () => {
  const keys = new Keys()
  await expect(open(keys)).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('has no key file') })
  await keys.add('ours', CHEAP)
  await expect(open(keys, 'wrong')).rejects.toMatchObject({ code: 'AUTH', message: 'The password does not open the repository memory.' })
})

test.each([
  ['no JSON', Buffer.from('{')],
  ['too large', Buffer.alloc(64 * 1024 + 1, 0x20)],
  ['an unknown derivation', Buffer.from('{"kdf":"argon2"}')],
  ['a derivation that costs too much', Buffer.from(`{"kdf":"scrypt","N":${2 ** 30},"r":8,"p":1,"salt":"","data":""}`)],
  ['no power of two', Buffer.from(`{"kdf":"scrypt","N":3,"r":8,"p":1,"salt":"","data":""}`)],
  ['N=1', Buffer.from(`{"kdf":"scrypt","N":1,"r":8,"p":1,"salt":"","data":""}`)],
])('a broken key file (%s) is told, and in nobody’s way', async (_what, bytes) => {
  const keys = new Keys()
  keys.files.set('f'.repeat(64), bytes)
  await expect(open(keys)).rejects.toMatchObject({ code: 'INTEGRITY', subject: 'f'.repeat(64) })
  const id = await keys.add('ours', DEAR)
  const said: string[] = []
  expect((await open(keys, 'ours', { ...silentLog, warn: (message) => void said.push(message) })).id).toBe(id)
  expect(said).toEqual(['A key file of the repository is not usable.'])
  await expect(open(keys, 'wrong')).rejects.toMatchObject({ code: 'INTEGRITY' })
})

test('a key file that cannot be read is no obstacle to another; else it is what is told', async () => {
  const keys = new Keys()
  keys.files.set('e'.repeat(64), new AgentError('CONFIG', 'That is for root alone.'))
  const id = await keys.add('ours', DEAR)
  expect((await open(keys)).id).toBe(id)
  await expect(open(keys, 'wrong')).rejects.toMatchObject({ code: 'CONFIG', message: 'That is for root alone.' })
})

test('a key that is removed while keys are read is as if it had not been there', async () => {
  const keys = new Keys()
  keys.files.set('d'.repeat(64), new AgentError('NOT_FOUND', 'gone'))
  await keys.add('ours', DEAR)
  await expect(open(keys, 'wrong')).rejects.toMatchObject({ code: 'AUTH' })
})

test('a cancel ends it', async () => {
  const keys = new Keys()
  await keys.add('another', DEAR)
  await expect(openKeyFile(keys, new Secret('ours'), deps, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELED' })
})
