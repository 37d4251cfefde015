import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, type PointId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import type { BackupProvider } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { collect, diskRef, expectPoint, noise, patterned, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { describePeer, describePeers } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
let directory: string
let repository: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-peer-restic-')
  repository = join(directory, 'repository')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const open = (sizes?: { readonly singleUpTo: number; readonly extentBytes: number }): Promise<BackupProvider> =>
  openResticProvider(repository, {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'proxy',
    username: 'vcb',
    pid: process.pid,
    password: new Secret('pw'),
    init: true,
    workers: 2,
    sizes,
    kdf: { N: 1024, r: 8, p: 1 },
  })

const stock = async (restic: string, ...words: readonly string[]): Promise<string> => {
  const env = { ...process.env, RESTIC_PASSWORD: 'pw', RESTIC_CACHE_DIR: join(directory, 'cache') }
  const { stdout } = await run(restic, ['-r', repository, ...words], { env, maxBuffer: 64 * MIB })
  return stdout
}

/** A full and two incrementals; the images as they must come back. */
async function chain(provider: BackupProvider): Promise<readonly (readonly [PointId, Buffer])[]> {
  const size = 7 * MIB + 512
  let bytes: Buffer = patterned(size, [
    { offset: 70_000, length: 2_000_000 },
    { offset: 6 * MIB, length: MIB + 512 },
  ])
  const points: [PointId, Buffer][] = []
  let parent: PointId | undefined
  for (const night of [0, 1, 2]) {
    bytes = Buffer.from(bytes)
    const ranges = night === 0 ? [{ offset: 0, length: size }] : [{ offset: night * MIB + 65_536, length: 131_072 }]
    if (night > 0) noise(131_072, night).copy(bytes, night * MIB + 65_536)
    const disks = [{ disk: diskRef(2000, size, '[ds] web/web01.vmdk'), source: new WatchedDisk(bytes), ranges }]
    const { id } = await writePoint(provider, disks, parent === undefined ? {} : { parent })
    points.push([id, bytes])
    parent = id
  }
  return points
}

describePeers(['restic', 'qemu-img'], 'stock restic and qemu-img judge restore points', ({ restic, 'qemu-img': qemuImg }) => {
  it.each([
    ['one file', undefined],
    ['several extents', { singleUpTo: MIB, extentBytes: 2 * MIB }],
  ] as const)('check, list, restore and open every point (%s)', async (_title, sizes) => {
    await using provider = await open(sizes)
    const points = await chain(provider)
    await stock(restic, 'check', '--read-data')
    const listed = JSON.parse(await stock(restic, 'snapshots', '--json')) as { hostname: string; tags: string[]; paths: string[] }[]
    expect(listed).toHaveLength(3)
    expect(listed[0]).toMatchObject({ hostname: 'web01', paths: ['/web01'] })
    expect(listed[0]?.tags).toEqual(expect.arrayContaining(['vcb-proxy', 'vm:uuid-50_1a', 'vcenter:vc-1', 'mode:full']))
    for (const [id, bytes] of points) {
      const target = join(directory, `restored-${id.slice(0, 8)}`)
      await stock(restic, 'restore', id, '--target', target)
      const raw = join(directory, 'image.raw')
      await run(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', join(target, 'web01', 'web01.vmdk'), raw])
      expect((await readFile(raw)).equals(bytes), id).toBe(true)
      expect(await readFile(join(target, 'web01', 'web01.vmx'), 'utf8')).toBe('displayName = "web01"\n')
    }
  })
})

describePeer('restic', 'stock restic beside us in one repository', (restic) => {
  it('dumps an image byte for byte', async () => {
    await using provider = await open()
    const [[id, bytes] = []] = await chain(provider)
    if (id === undefined || bytes === undefined) throw new Error('no point')
    const env = { ...process.env, RESTIC_PASSWORD: 'pw', RESTIC_CACHE_DIR: join(directory, 'cache') }
    const { stdout } = await run(restic, ['-r', repository, 'dump', id, '/web01/web01-flat.vmdk'], {
      env,
      encoding: 'buffer',
      maxBuffer: 64 * MIB,
    })
    expect(stdout.equals(bytes)).toBe(true)
  })

  it('leaves its snapshots alone, builds on after it pruned, and stays clean', async () => {
    await mkdir(join(directory, 'files'))
    await writeFile(join(directory, 'files', 'letter.txt'), noise(300_000, 'letter'))
    await stock(restic, 'init', '--repository-version', '2')
    await stock(restic, 'backup', join(directory, 'files'))
    const size = 3 * MIB
    const before = noise(size, 1)
    const first = await (async () => {
      await using provider = await open()
      return writePoint(provider, [{ disk: diskRef(2000, size), source: new WatchedDisk(before) }])
    })()
    const second = await (async () => {
      await using provider = await open()
      const source = new WatchedDisk(Buffer.concat([noise(MIB, 2), before.subarray(MIB)]))
      return writePoint(provider, [{ disk: diskRef(2000, size), source, ranges: [{ offset: 0, length: MIB }] }], { parent: first.id })
    })()
    await stock(restic, 'forget', first.id, '--prune')
    await using provider = await open()
    const points = await collect(provider.points?.list() ?? (async function* () {})())
    expect(points.map(({ id }) => id)).toEqual([second.id])
    const after = Buffer.concat([noise(MIB, 2), before.subarray(MIB, 2 * MIB), noise(MIB, 3)])
    const disks = [{ disk: diskRef(2000, size), source: new WatchedDisk(after), ranges: [{ offset: 2 * MIB, length: MIB }] }]
    const third = await writePoint(provider, disks, { parent: second.id })
    await expectPoint(provider, third.id, new Map([[2000, after]]))
    const foreign = (JSON.parse(await stock(restic, 'snapshots', '--json')) as { id: string; tags?: string[] }[]).find(
      ({ tags }) => tags === undefined,
    )
    await expect(provider.points?.open(foreign?.id ?? '')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(provider.points?.delete((foreign?.id ?? '') as PointId)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await stock(restic, 'check', '--read-data')
  })
})
