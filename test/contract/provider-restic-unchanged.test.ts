import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { KIB, MIB, type PointId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { type Backend, directoryBackend, type FileRef } from '../../src/restic/index.ts'
import { openKeyFile } from '../../src/restic/open-key.ts'
import { SealedFiles } from '../../src/restic/sealed-files.ts'
import { afterAMoment } from '../after-a-moment.ts'
import { diskRef, expectPoint, noise, WatchedDisk, writePoint } from './provider-fixtures.ts'

const EXTENTS = 12
const SIZE = EXTENTS * MIB
const deps = {
  clock: systemClock,
  log: silentLog,
  random: randomBytes,
  hostname: 'proxy',
  username: 'vcb',
  pid: process.pid,
  password: new Secret('correct horse'),
  workers: 1,
  kdf: { N: 1024, r: 8, p: 1 },
}

let directory: string
/** What the open provider has read of packs. */
const loads: FileRef[] = []

/** A process of its own, as far as the repository and its cache can tell. */
const open = (init = false) => {
  loads.length = 0
  const inner = directoryBackend(join(directory, 'repository'))
  const backend: Backend = {
    url: inner.url,
    load: (file, options) => (file.kind === 'data' && loads.push(file), inner.load(file, options)),
    save: (file, data, options) => inner.save(file, data, options),
    list: (kind, options) => inner.list(kind, options),
    stat: (file, options) => inner.stat(file, options),
    remove: (file, options) => inner.remove(file, options),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  }
  return openResticProvider(backend, {
    ...deps,
    init,
    sizes: { singleUpTo: MIB, extentBytes: MIB, blockBytes: 256 * KIB },
    cacheDirectory: join(directory, 'cache'),
    indexSizes: { cacheBlobs: 10, spillBlobs: 500 },
  })
}

async function full(bytes: Buffer): Promise<PointId> {
  await using provider = await open(true)
  return (await writePoint(provider, [{ disk: diskRef(2000, SIZE), source: new WatchedDisk(bytes) }])).id
}

/** An incremental in a process of its own, and how much of the parent's trees it read. */
async function incremental(bytes: Buffer, parent: PointId, ranges: readonly { readonly offset: number; readonly length: number }[] = []) {
  await using provider = await open()
  const { id } = await writePoint(provider, [{ disk: diskRef(2000, SIZE), source: new WatchedDisk(bytes), ranges }], { parent })
  return { id, loads: loads.length }
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-unchanged-'))
})
afterEach(() => rm(directory, { recursive: true }))

it('reads no tree of what did not change, once another process has found it complete', async () => {
  const bytes = noise(SIZE, 1)
  const parent = await full(bytes)
  // The full leaves behind what it knows. The root, the VM's directory, the manifest, the directory of extents; all of it more than once at most.
  const second = await incremental(bytes, parent)
  expect(second.loads).toBeLessThan(EXTENTS)
  // A proxy without that makes its cache, and looks everything up.
  await rm(join(directory, 'cache'), { recursive: true })
  const other = await incremental(bytes, second.id)
  expect(other.loads).toBeGreaterThan(EXTENTS)
  expect((await incremental(bytes, other.id)).loads).toBeLessThan(EXTENTS)
  noise(256 * KIB, 2).copy(bytes, 5 * MIB)
  const third = await incremental(bytes, second.id, [{ offset: 5 * MIB, length: 256 * KIB }])
  expect(third.loads).toBeLessThanOrEqual(second.loads + 2)
  await using provider = await open()
  await expectPoint(provider, third.id, new Map([[2000, bytes]]))
})

it('looks again after the index was written anew, and does not reuse what has gone', async () => {
  const bytes = noise(SIZE, 3)
  const parent = await full(bytes)
  const { id } = await incremental(bytes, parent)
  expect((await incremental(bytes, id)).loads).toBeLessThan(EXTENTS)
  // As "restic repair index" does when a pack is lost: new index files without one block, in place of the old ones.
  await using backend = directoryBackend(join(directory, 'repository'))
  const files = new SealedFiles(backend, (await openKeyFile(backend, deps.password, deps)).master, randomBytes)
  type Index = { readonly packs: readonly { readonly id: string; readonly blobs: readonly { readonly type: string }[] }[] }
  let dropped = false
  for (const name of await readdir(join(directory, 'repository', 'index'))) {
    const { packs } = (await files.loadJson({ kind: 'index', name })) as Index
    const left = packs.map((pack) => {
      if (dropped || pack.blobs[0]?.type !== 'data' || pack.blobs.length < EXTENTS) return pack
      dropped = true
      return { ...pack, blobs: pack.blobs.toSpliced(7, 1) }
    })
    await files.save('index', Buffer.from(JSON.stringify({ packs: left })))
    await backend.remove({ kind: 'index', name })
  }
  expect(dropped).toBe(true)
  await expect(incremental(bytes, id)).rejects.toMatchObject({ code: 'INTEGRITY' })
  await using provider = await open()
  await using reader = await provider.points?.open(id)
  await using disk = await reader?.disk(2000)
  await expect(disk?.read(0, Buffer.alloc(SIZE))).rejects.toMatchObject({
    code: 'INTEGRITY',
    message: expect.stringContaining('is missing'),
  })
})

it('builds on no parent that goes while the lock does not count yet', async () => {
  const bytes = noise(SIZE, 6)
  const parent = await full(bytes)
  let moments = 0
  // By then the parent was read.
  const sleep: typeof systemClock.sleep = async (ms, options) => {
    moments++
    await systemClock.sleep(ms, options)
    await rm(join(directory, 'repository', 'snapshots', parent))
  }
  await using provider = await openResticProvider(afterAMoment(directoryBackend(join(directory, 'repository'))), {
    ...deps,
    clock: { ...systemClock, sleep },
  })
  const put = writePoint(provider, [{ disk: diskRef(2000, SIZE), source: new WatchedDisk(bytes), ranges: [] }], { parent })
  await expect(put).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(moments).toBe(1)
  expect(await readdir(join(directory, 'repository', 'locks'))).toEqual([])
})

it('keeps nothing of a writer that was aborted', async () => {
  const bytes = noise(SIZE, 4)
  const parent = (await incremental(bytes, await full(bytes))).id
  {
    await using provider = await open()
    const changed = noise(SIZE, 5)
    const source = new WatchedDisk(changed)
    source.failAt = SIZE - 1
    const put = writePoint(provider, [{ disk: diskRef(2000, SIZE), source, ranges: [{ offset: 0, length: SIZE }] }], { parent })
    await expect(put).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    // The same process goes on, over an index that was read anew.
    source.failAt = undefined
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, SIZE), source, ranges: [{ offset: 0, length: SIZE }] }], { parent })
    await expectPoint(provider, id, new Map([[2000, changed]]))
  }
  await using provider = await open()
  await expectPoint(provider, parent, new Map([[2000, bytes]]))
})
