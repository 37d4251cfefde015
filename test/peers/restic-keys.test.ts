import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { main } from '../../src/cli/main.ts'
import { Secret } from '../../src/core/index.ts'
import { directoryBackend, openRepository, type Repository } from '../../src/restic/index.ts'
import { RANDOM_KDF, sealKeyFile } from '../../src/restic/key-file.ts'
import { openKeyFile } from '../../src/restic/open-key.ts'
import { describePeer } from '../peer.ts'
import { backupImage, deps, PASSWORD, ResticPlace, testImage } from './restic-fixture.ts'

const run = promisify(execFile)
const RANDOM = 'wZ3o0dWv1rJcG5yq8H2sKkq9vTn4LxYb7eUfAaPmQ6E'

/** Stock restic with a password of its own. */
async function resticWith(place: ResticPlace, password: string, ...args: readonly string[]): Promise<string> {
  const file = join(place.directory, 'password')
  await writeFile(file, `${password}\n`, { mode: 0o600 })
  const env = { PATH: process.env['PATH'], HOME: place.directory }
  return (await run('restic', ['-r', place.path, '--password-file', file, '--no-cache', ...args], { env })).stdout
}

type ResticKey = { readonly id: string; readonly current: boolean; readonly userName: string; readonly hostName: string }
const keysOf = async (place: ResticPlace, password: string): Promise<readonly ResticKey[]> =>
  JSON.parse(await resticWith(place, password, 'key', 'list', '--json')) as ResticKey[]

const openWith = (place: ResticPlace, password: string): Promise<Repository> =>
  openRepository(directoryBackend(place.path), new Secret(password), deps())

/** The command itself, with the password in a file. */
async function vcb(
  place: ResticPlace,
  passwordFile: string,
  ...argv: readonly string[]
): Promise<{ status: number; out: string; err: string }> {
  const said = { out: '', err: '' }
  const status = await main(
    [...argv, '--repo', place.path, '--repo-password-file', passwordFile, '--state-dir', join(place.directory, 'state')],
    {
      environment: {},
      out: (text) => void (said.out += text),
      err: (text) => void (said.err += text),
      interactive: false,
      signal: new AbortController().signal,
    },
  )
  return { status, ...said }
}

describePeer('restic', 'keys between us and stock restic', () => {
  it('the file that "vcb key add --random" writes is a password file for restic; what restic revokes opens nothing with vcb', async () => {
    await using place = await ResticPlace.make()
    {
      await using repository = await place.init()
      await backupImage(repository, testImage(2))
    }
    const [typed, random] = [join(place.directory, 'typed'), join(place.directory, 'random')]
    await writeFile(typed, `${PASSWORD}\n`)
    const added = await vcb(place, typed, 'key', 'add', '--random', random, '--json')
    expect(added).toMatchObject({ status: 0, err: '' })
    const { id } = (JSON.parse(added.out) as { key: { id: string } }).key
    const stock = async (...args: readonly string[]): Promise<string> =>
      (await run('restic', ['-r', place.path, '--password-file', random, '--no-cache', ...args], { env: { PATH: process.env['PATH'] } }))
        .stdout
    expect(JSON.parse(await stock('snapshots', '--json'))).toHaveLength(1)
    expect(await stock('check', '--read-data')).toContain('no errors were found')
    expect(await stock('key', 'list')).toContain(`*${id.slice(0, 8)}`)
    expect(await vcb(place, random, 'points')).toMatchObject({ status: 0, err: '' })
    await place.restic('key', 'remove', id)
    expect(await vcb(place, random, 'points')).toMatchObject({ status: 4, err: expect.stringContaining('does not open the repository') })
    expect((await vcb(place, typed, 'key', 'list')).out.split('\n')).toHaveLength(3)
  })

  it('restic opens, checks and lists with a key of random bits, and takes it away: then it opens nothing any more', async () => {
    await using place = await ResticPlace.make()
    let password = ''
    {
      await using repository = await place.init()
      await backupImage(repository, testImage(2))
      const { id, kdf } = await repository.keys.addRandom(async (made) => {
        password = made.reveal()
        return made
      })
      expect(kdf).toEqual(RANDOM_KDF)
      expect(password).toMatch(/^[\w-]{43}$/u)
      expect(JSON.parse(await resticWith(place, password, 'snapshots', '--json'))).toHaveLength(1)
      expect(await resticWith(place, password, 'check', '--read-data')).toContain('no errors were found')
      const listed = await keysOf(place, password)
      expect(listed).toHaveLength(2)
      expect(listed.find(({ current }) => current)).toMatchObject({
        id: id.slice(0, 8),
        userName: 'tester',
        hostName: 'vcb-test-host',
      })
      expect((await keysOf(place, PASSWORD)).find(({ current }) => current)?.id).not.toBe(id.slice(0, 8))
      await using ours = await openWith(place, password)
      expect((await ours.keys.list()).filter(({ current }) => current)).toMatchObject([{ id }])
      await resticWith(place, PASSWORD, 'key', 'remove', id)
    }
    await expect(openWith(place, password)).rejects.toMatchObject({ code: 'AUTH', message: expect.stringContaining('does not open') })
    await using still = await openWith(place, PASSWORD)
    expect(await still.keys.list()).toHaveLength(1)
  })

  it('restic takes derivations down to N=2, r=1, p=1', async () => {
    await using place = await ResticPlace.make()
    await using _repository = await place.init()
    const backend = directoryBackend(place.path)
    const { master } = await openKeyFile(backend, new Secret(PASSWORD), deps())
    for (const kdf of [{ N: 2, r: 1, p: 1 }, { N: 2, r: 8, p: 1 }, { N: 16, r: 1, p: 1 }, RANDOM_KDF]) {
      const password = `${RANDOM}${kdf.N}-${kdf.r}`
      const { name, bytes } = await sealKeyFile(master, new Secret(password), deps(), kdf)
      await backend.save({ kind: 'key', name }, bytes)
      const current = (await keysOf(place, password)).find((each) => each.current)
      expect(current?.id, JSON.stringify(kdf)).toBe(name.slice(0, 8))
    }
  })

  it('what restic adds is listed by us and opens with us; we take it away, and restic refuses the password', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const file = join(place.directory, 'second')
    await writeFile(file, 'second password\n')
    await place.restic('key', 'add', '--new-password-file', file, '--host', 'elsewhere', '--user', 'somebody')
    const added = (await repository.keys.list()).find(({ current }) => !current)
    expect(added).toMatchObject({ facts: { hostname: 'elsewhere', username: 'somebody', kdf: { r: 8 } } })
    {
      await using other = await openWith(place, 'second password')
      expect((await other.keys.list()).find(({ current }) => current)?.id).toBe(added?.id)
    }
    expect(await repository.keys.remove(added?.id.slice(0, 8) ?? '')).toBe(added?.id)
    await expect(resticWith(place, 'second password', 'key', 'list')).rejects.toThrow(/wrong password or no key found/u)
    expect(await readdir(join(place.path, 'locks'))).toEqual([])
  })

  it('restic opens with a typed password that we add, and a key is removed by nobody while restic or we work', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const { id, kdf } = await repository.keys.add(new Secret('typed by somebody'))
    expect(128 * kdf.N * kdf.r * kdf.p).toBeGreaterThan(128 * 1024 * 1024)
    expect((await keysOf(place, 'typed by somebody')).find(({ current }) => current)?.id).toBe(id.slice(0, 8))
    await using _writer = await repository.beginWrite()
    await expect(resticWith(place, PASSWORD, 'key', 'remove', id)).rejects.toThrow(/already locked/u)
    await expect(repository.keys.remove(id)).rejects.toMatchObject({ code: 'CONFLICT' })
  })
})
