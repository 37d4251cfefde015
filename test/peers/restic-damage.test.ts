import { chmod, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Secret } from '../../src/core/index.ts'
import { directoryBackend, initRepository, openRepository, type RepositorySize, SLICES } from '../../src/restic/index.ts'
import { describePeer } from '../peer.ts'
import { backupImage, deps, FAST_KDF, readBack, ResticPlace, testImage } from './restic-fixture.ts'

const files = async (place: ResticPlace, folder: string): Promise<string[]> =>
  (await readdir(join(place.path, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path)
  bytes[at] = (bytes[at] ?? 0) ^ 0x40
  await chmod(path, 0o600)
  await writeFile(path, bytes)
}

describePeer('restic', 'a repository that is wrong or damaged', () => {
  it('wrong password, ours and restic’s: AUTH; an added key opens', async () => {
    await using place = await ResticPlace.make()
    await place.restic('init', '--repository-version', '2')
    const backend = directoryBackend(place.path)
    await expect(openRepository(backend, new Secret('wrong'), deps())).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining('password'),
    })
    const newPassword = join(place.directory, 'pw')
    await writeFile(newPassword, 'second')
    await place.restic('key', 'add', '--new-password-file', newPassword)
    await using opened = await openRepository(backend, new Secret('second'), deps())
    expect(opened.id).toMatch(/^[0-9a-f]{64}$/u)
    await expect(initRepository(backend, new Secret('x'), deps(), { kdf: FAST_KDF })).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('no repository at all: NOT_FOUND', async () => {
    await using place = await ResticPlace.make()
    await expect(place.open()).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining(place.path) })
  })

  it('a flipped byte in any pack is found by check and refused by reading, naming the pack', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(6))
    const packs = await files(place, 'data')
    expect(packs).toHaveLength(2)
    for (const pack of packs) {
      const name = pack.slice(-64)
      await flip(pack, 100)
      await using fresh = await place.open()
      const found = await Array.fromAsync(fresh.check({ readData: true }))
      expect(found.map((problem) => problem.what).join('\n')).toContain(name)
      await expect(readBack(fresh, id, 'vm', 'disk.img')).rejects.toMatchObject({
        code: 'INTEGRITY',
        message: expect.stringContaining(name),
      })
      expect((await Array.fromAsync(fresh.check({ readData: true, snapshot: id }))).length).toBeGreaterThan(0)
      expect((await place.tryRestic('check', '--read-data')).status).not.toBe(0)
      await flip(pack, 100)
    }
    expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
  })

  it('a share of the data reads its packs and no other, and all shares together find what reading everything finds', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    for (let image = 0; image < 3; image++) await backupImage(repository, testImage(6 + image))
    const packs = await files(place, 'data')
    for (const pack of packs) await flip(pack, 100)
    await using fresh = await place.open()
    const everything = (await Array.fromAsync(fresh.check({ readData: true, structure: false }))).map(({ what }) => what)
    expect(everything.length).toBeGreaterThanOrEqual(packs.length)
    const read: number[] = []
    const shares: string[] = []
    for (let share = 0; share < 4; share++) {
      const slices = Array.from({ length: SLICES / 4 }, (_, index) => index * 4 + share)
      const before = read.length
      for await (const { what, slice, pack } of fresh.check({
        readData: true,
        structure: false,
        slices,
        onSlice: async (done) => void read.push(done),
      })) {
        expect(slice).toBe(Number.parseInt((pack ?? '').slice(0, 2), 16))
        expect((slice ?? 0) % 4).toBe(share)
        shares.push(what)
      }
      expect(read.slice(before)).toEqual(slices)
    }
    expect(shares.toSorted()).toEqual(everything.toSorted())
    for (const pack of packs) await flip(pack, 100)
    let size: RepositorySize | undefined
    await Array.fromAsync(fresh.check({ onSize: (measured) => (size = measured) }))
    expect(size?.packs).toBe(packs.length)
    expect(size?.bytes).toBe((await Promise.all(packs.map(async (pack) => (await stat(pack)).size))).reduce((sum, each) => sum + each, 0))
    expect(size).toMatchObject({ unknownBytes: 0, unusedBytes: 0 })
    const [first] = await Array.fromAsync(fresh.snapshots.list())
    await fresh.snapshots.forget([first?.id ?? ''])
    await Array.fromAsync(fresh.check({ onSize: (measured) => (size = measured) }))
    const { unusedBytes, before } = await fresh.prune({ dryRun: true })
    expect(unusedBytes).toBeGreaterThan(0)
    expect(size).toMatchObject({ unusedBytes, bytes: before.bytes })
  })

  it('a missing and a shortened pack are found without reading data', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(30))
    const [first = '', second = ''] = await files(place, 'data')
    await chmod(first, 0o600)
    await truncate(first, 1000)
    await rm(second)
    await using fresh = await place.open()
    const text = (await Array.fromAsync(fresh.check())).map((problem) => problem.what).join('\n')
    expect(text).toContain(`Pack ${first.slice(-64)} has 1000 bytes`)
    expect(text).toContain(`Pack ${second.slice(-64)} is missing`)
    await expect(readBack(fresh, id, 'vm', 'disk.img')).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('a truncated and a flipped index file: INTEGRITY with the way to rebuild it; restic rebuilds and we read again', async () => {
    await using place = await ResticPlace.make()
    const image = testImage(5)
    await using repository = await place.init()
    const id = await backupImage(repository, image)
    const [index = ''] = await files(place, 'index')
    const whole = await readFile(index)
    await chmod(index, 0o600)
    for (const damaged of [whole.subarray(0, whole.length - 20), Buffer.alloc(0), Buffer.concat([whole, Buffer.alloc(1)])]) {
      await writeFile(index, damaged)
      await using fresh = await place.open()
      await expect(fresh.beginWrite()).rejects.toMatchObject({
        code: 'INTEGRITY',
        message: expect.stringContaining(index.slice(-64)),
        next: expect.stringContaining('restic rebuild-index'),
      })
      await expect(readBack(fresh, id, 'vm', 'disk.img')).rejects.toMatchObject({ code: 'INTEGRITY' })
      expect(await Array.fromAsync(fresh.check())).toHaveLength(1)
      expect(await readdir(join(place.path, 'locks'))).toEqual([])
    }
    await rm(index)
    await place.restic('rebuild-index')
    await using fresh = await place.open()
    expect(Buffer.compare(await readBack(fresh, id, 'vm', 'disk.img'), image)).toBe(0)
  })

  it('a damaged snapshot, key, configuration or lock file is named', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(1))
    await flip(join(place.path, 'snapshots', id), 40)
    await expect(repository.snapshots.get(id)).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining(id) })
    expect((await Array.fromAsync(repository.check())).map((problem) => problem.snapshot)).toEqual([id])
    await flip(join(place.path, 'config'), 40)
    await expect(place.open()).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining('configuration') })
    await flip(join(place.path, 'config'), 40)
    const lock = 'ab'.repeat(32)
    await writeFile(join(place.path, 'locks', lock), 'rubbish')
    await expect(repository.beginWrite()).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining(lock) })
    const [key = ''] = await files(place, 'keys')
    await chmod(key, 0o600)
    await writeFile(key, '{"kdf":"scrypt","N":1073741824,"r":8,"p":1,"salt":"AAAA","data":"AAAA"}')
    await expect(place.open()).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining('out of bounds') })
  })
})
