import { hash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { NewKey } from './provider.ts'
import { settleNewKey } from './settle-new-key.ts'

const KEY = 'ab'.repeat(32)
const LINE = 'random\n'

let directory: string
let made: NewKey
const inside = (...names: string[]): string => join(directory, ...names)
const isKept = async (): Promise<boolean> => (await readdir(directory)).includes('password')

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-settle-'))
  await mkdir(inside('repo', 'keys'), { recursive: true })
  await writeFile(inside('repo', 'config'), '')
  await writeFile(inside('repo', 'keys', 'cd'.repeat(32)), 'another key')
  await writeFile(inside('password'), LINE)
  made = { url: `restic:${inside('repo')}`, key: KEY, password: { path: inside('password'), sha256: hash('sha256', LINE) } }
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('a password whose key did not come to be goes, and so do the parts of that key', async () => {
  await writeFile(inside('repo', 'keys', `${KEY}-tmp-77-1`), 'a p')
  await settleNewKey(made)
  expect(await isKept()).toBe(false)
  expect(await readdir(inside('repo', 'keys'))).toEqual(['cd'.repeat(32)])
  await settleNewKey(made)
})

test('a password file that was made and not written yet goes', async () => {
  await writeFile(inside('password'), '')
  await settleNewKey(made)
  expect(await isKept()).toBe(false)
})

test('a key that is there stays, with its password', async () => {
  await writeFile(inside('repo', 'keys', KEY), 'the key')
  await settleNewKey(made)
  expect(await isKept()).toBe(true)
  expect(await readdir(inside('repo', 'keys'))).toContain(KEY)
})

test('a file that holds something else is not ours', async () => {
  await writeFile(inside('password'), 'of somebody\n')
  await settleNewKey(made)
  expect(await isKept()).toBe(true)
})

test('of a repository that is not there now nothing is known, so nothing is removed', async () => {
  await writeFile(inside('repo', 'keys', KEY), 'the key')
  await rm(inside('repo', 'config'))
  await settleNewKey(made)
  await rm(inside('repo'), { recursive: true })
  await settleNewKey(made)
  expect(await isKept()).toBe(true)
})

test('a typed password is in a file of its owner, which is none of ours', async () => {
  await settleNewKey({ url: made.url, key: KEY })
  expect(await isKept()).toBe(true)
})
