import { randomBytes } from 'node:crypto'
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type BlockSink, MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { copyDisk, createRawFile } from '../../src/disk/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { type Backend, directoryBackend, type FileRef } from '../../src/restic/index.ts'
import { providerContract, type ProviderSubject } from './provider-contract.ts'
import { collect, diskRef, noise, WatchedDisk, writePoint } from './provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

const CHEAP = { N: 1024, r: 8, p: 1 }
const deps = {
  clock: systemClock,
  log: silentLog,
  random: randomBytes,
  hostname: 'proxy',
  username: 'vcb',
  pid: process.pid,
  password: new Secret('correct horse'),
  init: true,
  workers: 2,
  kdf: CHEAP,
}

async function makeRestic(sizes?: { readonly singleUpTo: number; readonly extentBytes: number }): Promise<ProviderSubject> {
  const directory = await fastDirectory('vcb-provider-')
  return {
    open: () => openResticProvider(join(directory, 'repository'), { ...deps, sizes }),
    // Unreferenced packs are no points; what shows is the list of snapshots.
    leftovers: async () => [],
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

providerContract('restic, one file a disk', () => makeRestic())
providerContract('restic, several extents a disk', () => makeRestic({ singleUpTo: MIB, extentBytes: 2 * MIB }))

it.each([undefined, { singleUpTo: MIB, extentBytes: 2 * MIB }])(
  'writes a disk to a file by its threads, and of a damaged one nothing that is not sound (%o)',
  async (sizes) => {
    const directory = await fastDirectory('vcb-provider-')
    try {
      const repository = join(directory, 'repository')
      await using provider = await openResticProvider(repository, { ...deps, sizes })
      const source = new WatchedDisk(noise(5 * MIB, 1).fill(0, 3 * MIB, 4 * MIB))
      const { id } = await writePoint(provider, [{ disk: diskRef(2000, source.size), source }])
      const target = join(directory, 'disk')
      const taken: (number | undefined)[] = []
      const restore = async (): Promise<void> => {
        await rm(target, { force: true })
        await using reader = await provider.points?.open(id)
        await using disk = await reader?.disk(2000)
        if (disk?.writeTo === undefined) throw new Error('it cannot')
        await using file = await createRawFile(target, disk.size)
        taken.length = 0
        const watched: BlockSink = {
          size: file.size,
          write: (...args) => file.write(...args),
          writeBy: async (...args) => {
            const written = await file.writeBy(...args)
            taken.push(written)
            return written
          },
          zero: (...args) => file.zero(...args),
          flush: (...args) => file.flush(...args),
          [Symbol.asyncDispose]: () => Promise.resolve(),
        }
        await copyDisk(disk, watched)
      }
      await restore()
      expect(taken.toSorted((a, b) => (a ?? 0) - (b ?? 0))).toEqual([MIB, 3 * MIB])
      expect((await readFile(target)).equals(source.bytes)).toBe(true)

      const packs = join(repository, 'data')
      for (const folder of await readdir(packs)) {
        for (const name of await readdir(join(packs, folder))) {
          const path = join(packs, folder, name)
          const bytes = await readFile(path)
          if (bytes.length < 4 * MIB) continue
          await chmod(path, 0o600)
          await writeFile(path, bytes.fill(0xa5, MIB, MIB + 100))
        }
      }
      await expect(restore()).rejects.toMatchObject({ code: 'INTEGRITY' })
      expect(taken).toContain(undefined)
      await expect(readFile(target)).rejects.toMatchObject({ code: 'ENOENT' })
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  },
)

/** Counts what is loaded of a repository. */
function counted(backend: Backend, loads: FileRef[]): Backend {
  return {
    url: backend.url,
    load: (file, options) => (loads.push(file), backend.load(file, options)),
    save: (file, data, options) => backend.save(file, data, options),
    list: (kind, options) => backend.list(kind, options),
    stat: (file, options) => backend.stat(file, options),
    remove: (file, options) => backend.remove(file, options),
    [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose](),
  }
}

it("opens a VM's newest points, not those of the other VMs, and reads each snapshot file once", async () => {
  const directory = await fastDirectory('vcb-provider-')
  try {
    const loads: FileRef[] = []
    await using provider = await openResticProvider(counted(directoryBackend(directory), loads), deps)
    const written: string[][] = []
    for (let round = 0; round < 3; round++) {
      const ids: string[] = []
      for (const uuid of ['one', 'two', 'three, four']) {
        const source = new WatchedDisk(noise(64 * 1024, `${uuid} ${round}`))
        const disks = [{ disk: diskRef(2000, source.size), source }]
        ids.push((await writePoint(provider, disks, { uuid })).id)
      }
      written.push(ids)
    }
    const points = provider.points ?? expect.fail()
    const of = (uuid: string, most: number) =>
      collect(points.list({ newestOf: { instanceUuid: `uuid-${uuid}`, vcenterUuid: 'vc-1', most } }))
    loads.length = 0
    expect((await of('two', 2)).map(({ id }) => id)).toEqual([written[2]?.[1], written[1]?.[1]])
    expect(loads.filter(({ kind }) => kind === 'snapshot')).toHaveLength(9)
    // The root, the directory and the manifest of two points, some of which the repository still has in memory.
    expect(loads.filter(({ kind }) => kind === 'data').length).toBeLessThanOrEqual(6)
    loads.length = 0
    expect((await of('three, four', 9)).map(({ vmName }) => vmName)).toHaveLength(3)
    expect(await of('three_ four', 9)).toEqual([])
    expect(loads.filter(({ kind }) => kind === 'snapshot')).toEqual([])
    // What another process adds and removes is seen all the same.
    await using other = await openResticProvider(directory, deps)
    await other.points?.delete(written[2]?.[1] as never)
    const source = new WatchedDisk(noise(64 * 1024, 'last'))
    const { id } = await writePoint(other, [{ disk: diskRef(2000, source.size), source }], { uuid: 'two' })
    expect((await of('two', 9)).map((point) => point.id)).toEqual([id, written[1]?.[1], written[0]?.[1]])
    expect(loads.filter(({ kind }) => kind === 'snapshot')).toHaveLength(1)
    await expect(points.open(written[2]?.[1] ?? '')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
