import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:fs'
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isMissing, safeFileName, systemClock } from '../../src/core/index.ts'
import { digestOfFile, type Json, type LabSession, openLabSession } from '../flow/lab-session.ts'
import { cheapenKey } from '../cheap-key.ts'
import { describePeers } from '../peer.ts'

const run = promisify(execFile)
const VMS = ['web01', 'db01', 'win01']

/** The file's text, as soon as the mount shows it; fails after 20 s. */
async function whenReadable(path: string): Promise<string> {
  for (let waited = 0; ; waited += 100) {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      if (!isMissing(error) || waited >= 20_000) throw error
    }
    await systemClock.sleep(100)
  }
}

describePeers(['restic', 'qemu-img'], 'stock restic and a week of our restore points', (peers) => {
  let session: LabSession
  const points: { vm: string; point: Json }[] = []
  const restic = async (...args: readonly string[]): Promise<string> => {
    const { stdout } = await run(peers.restic, ['--repo', session.repository, '--no-cache', ...args], {
      env: { ...process.env, RESTIC_PASSWORD: session.repositoryPassword },
      maxBuffer: 512 * 1024 * 1024,
      encoding: 'utf8',
    })
    return stdout
  }

  beforeAll(async () => {
    session = await openLabSession()
    // A repository that stock restic made, with its own file backup in it.
    await mkdir(session.repository, { recursive: true })
    await restic('init')
    await cheapenKey(session.repository, session.repositoryPassword)
    await restic('backup', '--quiet', '--host', 'fileserver', dirname(session.lab.passwordFile))
  })
  afterAll(async () => {
    await session[Symbol.asyncDispose]()
  })

  test('a full and five incrementals of three VMs leave the repository clean', async () => {
    for (let night = 0; night <= 5; night++) {
      if (night > 0) for (const vm of VMS) await session.lab.control.write(vm, { records: 3 })
      const result = await session.json(['backup', VMS.join(','), ...(night === 0 ? ['--mode', 'full'] : [])])
      for (const vm of result.vms) {
        expect(vm.mode).toBe(night === 0 ? 'full' : 'incremental')
        points.push({ vm: vm.vm.name, point: vm })
      }
    }
    expect(await restic('check', '--read-data')).toMatch(/no errors were found/)
    await session.expectClean()
  })

  test('restic restore of every point equals the digest of each disk at its snapshot, and qemu-img opens the descriptors', async () => {
    expect(points).toHaveLength(18)
    for (const { vm, point } of points) {
      const target = join(session.directory, 'restic-out')
      await restic('restore', point.point, '--target', target)
      const home = join(target, safeFileName(vm))
      const manifest = JSON.parse(await readFile(join(home, 'manifest.json'), 'utf8'))
      const recorded = (await session.lab.control.digestsAtSnapshot(vm)).find(
        (each) => Date.parse(each.createdAt) === Date.parse(point.time),
      )
      expect(recorded?.disks).toHaveLength(manifest.disks.length)
      for (const image of manifest.images) {
        const disk = recorded?.disks.find((each) => each.key === image.key)
        const flat = join(home, image.descriptor.replace(/\.vmdk$/, '-flat.vmdk'))
        expect(await digestOfFile(flat), `${vm} ${image.descriptor} at ${point.time}`).toBe(disk?.sha256)
        await run(peers['qemu-img'], ['compare', '-f', 'vmdk', '-F', 'raw', join(home, image.descriptor), flat])
      }
      await rm(target, { recursive: true })
    }
  })

  test('restic lists, dumps and counts them', async () => {
    const snapshots = JSON.parse(await restic('snapshots', '--json', '--tag', 'vcb-proxy'))
    expect(new Set(snapshots.map((each: Json) => each.id))).toEqual(new Set(points.map(({ point }) => point.point)))
    const { vm, point } = points.at(-1) ?? { vm: '', point: undefined }
    const dumped = await restic('dump', point.point, `/${safeFileName(vm)}/manifest.json`)
    expect(JSON.parse(dumped).vm.name).toBe(vm)
  })

  test('restic mount shows the disks as files, equal to what the lab recorded', async (context) => {
    const fuse = await access('/dev/fuse', constants.R_OK | constants.W_OK).then(
      () => true,
      () => false,
    )
    if (!fuse) context.skip('this user may not use /dev/fuse')
    const { vm, point } = points.at(-1) ?? { vm: '', point: undefined }
    const mountPoint = join(session.directory, 'mounted')
    await mkdir(mountPoint)
    const mounted = spawn(peers.restic, ['--repo', session.repository, '--no-cache', '--no-lock', 'mount', mountPoint], {
      env: { ...process.env, RESTIC_PASSWORD: session.repositoryPassword },
      stdio: 'ignore',
    })
    try {
      const home = join(mountPoint, 'ids', point.point.slice(0, 8), safeFileName(vm))
      const manifest = JSON.parse(await whenReadable(join(home, 'manifest.json')))
      const recorded = (await session.lab.control.digestsAtSnapshot(vm)).find(
        (each) => Date.parse(each.createdAt) === Date.parse(point.time),
      )
      for (const image of manifest.images) {
        const digest = recorded?.disks.find((each) => each.key === image.key)?.sha256
        expect(await digestOfFile(join(home, image.descriptor.replace(/\.vmdk$/, '-flat.vmdk')))).toBe(digest)
      }
    } finally {
      const ended = once(mounted, 'exit')
      mounted.kill('SIGINT')
      await ended
    }
  })

  test('after restic forget --prune the next incremental works and the repository is clean', async () => {
    await restic('forget', '--prune', '--tag', 'vcb-proxy', '--keep-last', '2', '--group-by', 'host')
    for (const vm of VMS) await session.lab.control.write(vm, { records: 2 })
    const result = await session.json(['backup', VMS.join(',')])
    for (const vm of result.vms) expect(vm.mode).toBe('incremental')
    expect(await restic('check', '--read-data')).toMatch(/no errors were found/)
    expect((await session.json(['check'])).problems).toEqual([])
    // The points of another program were neither listed nor touched.
    expect(JSON.parse(await restic('snapshots', '--json', '--host', 'fileserver'))).toHaveLength(1)
    expect((await session.json(['points'])).points).toHaveLength(9)
  })

  test('after everything is forgotten the next run is a full one', async () => {
    await restic('forget', '--prune', '--tag', 'vcb-proxy', '--host', 'web01', '--keep-last', '1')
    const last = JSON.parse(await restic('snapshots', '--json', '--host', 'web01'))
    await restic('forget', '--prune', last[0].id)
    const result = await session.json(['backup', 'web01'])
    expect(result.vms[0].mode).toBe('full')
    expect(result.vms[0].disks[0].modeReason).toMatch(/no earlier point/)
    expect(await restic('check', '--read-data')).toMatch(/no errors were found/)
  })

  test("restic's own lock is respected and ours is gone after each run", async () => {
    expect(await restic('list', 'locks')).toBe('')
    await writeFile(join(session.directory, 'marker'), 'x')
    await session.expectClean()
  })
})
