import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentError, MIB, type RunId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider, type OpenProviderOptions, removeLocks, removePartials } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { type Backend, directoryBackend } from '../../src/restic/index.ts'
import { diskRef, nextTime, noise, plan, vmConfig, WatchedDisk, whole, writePoint } from './provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-provider-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'proxy', username: 'vcb', pid: process.pid }
const options: OpenProviderOptions = { ...deps, password: new Secret('pw'), init: true, workers: 1 }
const disk = () => ({ disk: diskRef(2000, 6 * MIB), source: new WatchedDisk(noise(6 * MIB, 1)) })

/** A directory that takes no file of one kind, like a full disk. */
function full(path: string, kind: 'data' | 'index' | 'snapshot'): Backend {
  const inner = directoryBackend(path)
  return {
    url: inner.url,
    load: (file, each) => inner.load(file, each),
    async save(file, data, each) {
      if (file.kind === kind) throw new AgentError('CAPACITY', `No space is left to write ${file.name}.`)
      await inner.save(file, data, each)
    },
    list: (each, more) => inner.list(each, more),
    stat: (file, each) => inner.stat(file, each),
    remove: (file, each) => inner.remove(file, each),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  }
}

describe('a full destination', () => {
  it.each(['data', 'index', 'snapshot'] as const)(
    'restic: CAPACITY when a %s file does not fit, nothing listed, no lock left',
    async (kind) => {
      const path = join(directory, 'r')
      await using provider = await openResticProvider(full(path, kind), {
        ...deps,
        password: new Secret('pw'),
        init: true,
        workers: 1,
        kdf: { N: 1024, r: 8, p: 1 },
      })
      await expect(writePoint(provider, [disk()])).rejects.toMatchObject({ code: 'CAPACITY' })
      expect(await Array.fromAsync(provider.points?.list() ?? [])).toEqual([])
      expect(await readdir(join(path, 'locks'))).toEqual([])
    },
  )

  it('tape: CAPACITY from a device that takes nothing', async () => {
    await using provider = await openProvider('tar:/dev/full', options)
    await expect(writePoint(provider, [disk()])).rejects.toMatchObject({ code: 'CAPACITY' })
  })

  it.for(['tar', 'dir', 'tape'] as const)('%s: CAPACITY on a file system of 3 MiB, nothing left', async (scheme, context) => {
    const mountPoint = join(directory, 'small')
    await mkdir(mountPoint)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mountPoint], { stdio: 'ignore' })
    } catch {
      context.skip('mounting a small file system needs root')
    }
    try {
      await using provider = await openProvider(`${scheme}:${mountPoint}`, options)
      await expect(writePoint(provider, [disk()])).rejects.toMatchObject({ code: 'CAPACITY' })
      expect(await Array.fromAsync(provider.points?.list() ?? [])).toEqual([])
      expect(await readdir(mountPoint)).toEqual([])
    } finally {
      execFileSync('umount', [mountPoint])
    }
  })
})

describe('openProvider', () => {
  it('says what is wrong with a URL, a missing place or a missing password', async () => {
    await expect(openProvider('s4:bucket', options)).rejects.toMatchObject({ code: 'CONFIG' })
    await expect(openProvider('tar:', options)).rejects.toMatchObject({ code: 'CONFIG' })
    await expect(openProvider('tar:-', options)).rejects.toMatchObject({ code: 'CONFIG' })
    for (const scheme of ['tar', 'dir', 'restic']) {
      await expect(openProvider(`${scheme}:${directory}/none`, { ...options, init: false })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    }
    await expect(openProvider(directory, { ...deps })).rejects.toMatchObject({ code: 'CONFIG', next: expect.stringContaining('password') })
    await writeFile(join(directory, 'file'), 'x')
    await expect(openProvider(`dir:${directory}/file`, options)).rejects.toMatchObject({ code: 'CONFIG' })
  })

  it('refuses the wrong password of a repository', async () => {
    await (await openProvider(join(directory, 'r'), options))[Symbol.asyncDispose]()
    await expect(openProvider(join(directory, 'r'), { ...options, password: new Secret('no') })).rejects.toMatchObject({ code: 'AUTH' })
  })

  it('writes one archive file, and refuses to write over it', async () => {
    await using provider = await openProvider(`tar:${directory}/one.tar`, options)
    await writePoint(provider, [disk()])
    expect(await readdir(directory)).toEqual(['one.tar'])
    await expect(writePoint(provider, [disk()])).rejects.toMatchObject({ code: 'CONFLICT' })
  })
})

describe('removePartials', () => {
  it.each(['tar', 'dir'] as const)('%s: removes what a dead run left, and nothing of another run', async (scheme) => {
    const url = `${scheme}:${directory}`
    await using provider = await openProvider(url, options)
    const begin = async (run: string) => {
      const { disk: ref, source } = disk()
      const writer = await provider.begin({ config: vmConfig('web01', [ref]), run: run as RunId, time: nextTime() })
      await writer.putDisk(ref, source, plan('full', whole(source.size)))
      return writer
    }
    await using _dead = await begin('dead000000')
    await using _living = await begin('live000000')
    const { id } = await writePoint(provider, [disk()])
    expect(await readdir(directory)).toHaveLength(3)
    const places = { url, run: 'dead000000' as RunId, temporary: directory }
    expect(await removePartials(places)).toHaveLength(1)
    expect(await removePartials(places)).toEqual([])
    const left = await readdir(directory)
    expect(left.some((name) => name.startsWith(id))).toBe(true)
    expect(left.filter((name) => name.includes('live000000'))).toHaveLength(1)
  })

  it('removes a spool of digests that a killed archive writer did not unname, and none of another run', async () => {
    for (const name of ['vcb-digests-dead000000-aB3xYz', 'vcb-digests-live000000-aB3xYz', 'vcb-digests-other']) {
      await mkdir(join(directory, name))
      await writeFile(join(directory, name, 'digests'), '')
    }
    const places = { url: 'tar:-', run: 'dead000000' as RunId, temporary: directory }
    expect(await removePartials(places)).toEqual([join(directory, 'vcb-digests-dead000000-aB3xYz')])
    expect(await removePartials(places)).toEqual([])
    expect((await readdir(directory)).sort()).toEqual(['vcb-digests-live000000-aB3xYz', 'vcb-digests-other'])
  })

  it('restic: removes the files a dead run was writing, and nothing that is in its place', async () => {
    const run = 'dead000000' as RunId
    const repository = join(directory, 'repo')
    {
      await using dead = directoryBackend(repository, { run })
      await dead.save({ kind: 'index', name: 'ab'.repeat(32) }, Buffer.from('whole'))
      expect(await readdir(repository)).toContain('.dead000000.partial')
      await writeFile(join(repository, '.dead000000.partial', 'cd'.repeat(32)), 'a pack, half')
      await mkdir(join(repository, '.live000000.partial'))
      expect(await removePartials({ url: repository, run, temporary: directory })).toEqual([join(repository, '.dead000000.partial')])
    }
    expect((await readdir(repository)).sort()).toEqual(['.live000000.partial', 'index'])
    await using again = directoryBackend(repository)
    expect(await Array.fromAsync(again.list('index'))).toHaveLength(1)
  })
})

describe('removeLocks', () => {
  it('removes locks by name, with what a save that was cut short left, and no other', async () => {
    const [ours, half, theirs] = ['a', 'b', 'c'].map((digit) => digit.repeat(64))
    await using backend = directoryBackend(directory)
    for (const name of [ours ?? '', theirs ?? '']) await backend.save({ kind: 'lock', name }, Buffer.from('sealed'))
    await writeFile(join(directory, 'locks', `${half}-tmp`), 'sea')
    const locks = { url: `restic:${directory}`, names: [ours ?? '', half ?? ''] }
    await removeLocks(locks)
    expect(await readdir(join(directory, 'locks'))).toEqual([theirs])
    await removeLocks(locks)
    await removeLocks({ url: join(directory, 'gone'), names: locks.names })
    expect(await readdir(directory)).toEqual(['locks'])
  })
})
