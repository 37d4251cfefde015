import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { requirePeer } from '../peer.ts'
import { digestOfFile, type Json, type LabSession } from './lab-session.ts'
import { digestsOver, leasesOf, newTarget, openMountSession } from './mount-world.ts'

/* `vcb mount` shows what was frozen, to programs that are not ours, and `vcb unmount` leaves nothing. */
const run = promisify(execFile)

let session: LabSession
beforeAll(async () => {
  session = await openMountSession()
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
})

const snapshots = async (): Promise<number> =>
  (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).filter(({ name }) => name.startsWith('vcb-proxy ')).length

describe('a mount of type disk', () => {
  test('shows every disk as it was frozen while the guest writes on, says so in its manifest, and leaves nothing', async () => {
    const directory = await newTarget(session)
    const mounted = await session.json(['mount', 'web', directory])
    expect(mounted).toMatchObject({ directory, types: ['disk'], vm: { name: 'web' }, notMounted: [] })
    expect(mounted.disks.map((disk: Json) => [disk.bytes, disk.transport])).toEqual([
      [8 * 1024 ** 2, 'san'],
      [4 * 1024 ** 2, 'san'],
    ])
    expect(JSON.parse(await readFile(join(directory, '.vcb', 'manifest.json'), 'utf8'))).toEqual(mounted)
    expect((await stat(join(directory, '.vcb', 'nbd.sock'))).mode & 0o777).toBe(0o600)
    await session.lab.control.write('web', { percent: 30, unit: 65_536 })
    expect(await digestsOver(session, mounted)).toEqual(await session.frozenDigests('web'))

    const info = JSON.parse((await run(requirePeer('nbdinfo'), ['--json', '--list', mounted.disks[0].nbdUri])).stdout)
    expect(info.exports.map((each: Json) => [each['export-name'], each['export-size'], each.is_read_only])).toEqual(
      mounted.disks.map((disk: Json) => [disk.label, disk.bytes, true]),
    )
    const copy = join(session.directory, 'compare.raw')
    await run(requirePeer('nbdcopy'), [mounted.disks[1].nbdUri, copy])
    const compared = await run(requirePeer('qemu-img'), ['compare', '-f', 'raw', '-F', 'raw', mounted.disks[1].nbdUri, copy])
    expect(compared.stdout).toContain('Images are identical.')

    expect(await leasesOf(session)).toMatchObject([{ lease: mounted.lease, state: 'ready', vm: 'web', directory, types: ['disk'] }])
    const status = await session.json(['status'])
    expect(status).toMatchObject({ running: [], leases: [{ job: mounted.lease, kind: 'mount', subject: 'web', directory }] })
    expect((await session.vcb('status')).out).toContain(`in ${directory} until ${mounted.until}`)
    const refused = await session.json(['backup', 'web', '--init', '--mode', 'full'], 6)
    expect(refused.vms[0].error).toMatchObject({ code: 'CONFLICT', next: expect.stringContaining(`vcb unmount ${mounted.lease}`) })

    const done = await session.json(['unmount', directory])
    expect(done).toMatchObject({ lease: mounted.lease, ended: true, held: [], facts: { unmounted: true } })
    expect(done.facts.disks.map((disk: Json) => [disk.readTo === disk.bytes, disk.readErrors])).toEqual([
      [true, 0],
      [true, 0],
    ])
    await expect(stat(directory)).rejects.toThrow('ENOENT')
    await session.expectClean()
    // Again, in any way: nothing there is success, and the lease is remembered.
    expect(await session.json(['unmount', directory])).toMatchObject({ ended: false })
    expect(await session.json(['unmount', mounted.lease, '--read-all'])).toMatchObject({ ended: false, lease: mounted.lease })
    const [finished] = (await session.json(['status'])).finished.filter((job: Json) => job.kind === 'mount')
    expect(finished.outcome.result).toBe('succeeded')
  })

  test('keeps a directory that was there before, and what others put into it', async () => {
    const directory = await newTarget(session)
    await mkdir(directory)
    const link = join(session.directory, 'link')
    await symlink(directory, link)
    const mounted = await session.json(['mount', 'one', `${link}/`])
    expect(mounted.directory).toBe(directory)
    await writeFile(join(directory, 'theirs'), 'stays')
    const done = await session.json(['unmount', link])
    expect(done).toMatchObject({ lease: mounted.lease, ended: true })
    expect(await readdir(directory)).toEqual(['theirs'])
    await session.expectClean()
  })

  test('two at once do not touch each other, and the same VM or directory is refused', async () => {
    const [first, second] = [await newTarget(session), await newTarget(session)]
    const [one, two] = await Promise.all([session.json(['mount', 'one', first]), session.json(['mount', 'two', second])])
    expect(await session.json(['mount', 'one', await newTarget(session)], 6)).toMatchObject({ error: { code: 'CONFLICT' } })
    expect(await session.json(['mount', 'web', first], 6)).toMatchObject({ error: { code: 'CONFLICT' } })
    expect(await session.json(['unmount', one.lease])).toMatchObject({ ended: true })
    expect(await digestsOver(session, two)).toEqual(await session.frozenDigests('two'))
    expect((await leasesOf(session)).map(({ lease }) => lease)).toEqual([two.lease])
    const both = await Promise.all([session.json(['unmount', two.lease.slice(0, 13)]), session.json(['unmount', second])])
    expect(both.map(({ doubt }) => doubt)).toEqual([undefined, undefined])
    await session.expectClean()
  })

  test('a directory that cannot be one is refused before anything is done', async () => {
    const file = join(session.directory, 'file')
    const full = join(session.directory, 'full')
    await writeFile(file, '')
    await mkdir(full)
    await writeFile(join(full, 'something'), '')
    const before = await snapshots()
    for (const [directory, exit, said] of [
      [file, 6, 'is not a directory'],
      [full, 6, 'is not empty'],
      [join(session.directory, 'none', 'dir'), 5, 'does not exist'],
      [join(file, 'dir'), 6, 'is not a directory'],
    ] as const) {
      const answer = await session.json(['mount', 'one', directory], exit)
      expect(answer.error.message).toContain(said)
    }
    expect(await session.json(['mount', 'nobody', await newTarget(session)], 5)).toMatchObject({ error: { code: 'NOT_FOUND' } })
    expect(await session.json(['mount', 'one', full, '--type', 'tape'], 2)).toMatchObject({ error: { code: 'USAGE' } })
    expect(await session.json(['mount', 'one', await newTarget(session), '--owner-pid', '4194000'], 2)).toMatchObject({
      error: { code: 'USAGE' },
    })
    expect([await snapshots(), (await leasesOf(session)).length]).toEqual([before, 0])
    expect(await readdir(full)).toEqual(['something'])
    await session.expectClean()
  })

  test('an error that a reader got, and an image that was not read to its end, are told by unmount', async () => {
    const short = await session.json(['mount', 'one', await newTarget(session)])
    const told = await session.json(['unmount', short.lease, '--read-all'], 9)
    expect(told).toMatchObject({ ended: true, doubt: expect.stringContaining('up to byte 0 of 8388608') })

    const directory = await newTarget(session)
    const { exit, json } = await session.vcbWith(
      { VCB_DATASTORES: undefined, VCB_TRANSPORT: 'https', VCB_CONFIG: undefined },
      'mount',
      'two',
      directory,
      '--json',
    )
    expect(exit).toBe(0)
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', status: 404 })
    await expect(run(requirePeer('nbdcopy'), [json().disks[0].nbdUri, join(session.directory, 'broken.raw')])).rejects.toThrow(/nbdcopy/)
    await session.lab.control.clearFaults()
    const broken = await session.json(['unmount', directory], 9)
    expect(broken).toMatchObject({ ended: true, held: [], doubt: expect.stringContaining('got an error instead of data') })
    const [finished] = (await session.json(['status'])).finished.filter((job: Json) => job.kind === 'mount')
    expect(finished.outcome).toMatchObject({ result: 'failed', reason: broken.doubt })
    await session.expectClean()
  })

  test('a restore point is shown the same way, without vSphere', async () => {
    const run1 = await session.json(['backup', 'web', '--init', '--mode', 'full'])
    const wanted = await session.frozenDigests('web')
    const away = { VCB_VCENTER: undefined, VCB_USER: undefined }
    for (const what of ['web@latest', run1.vms[0].point, `point:${run1.vms[0].point.slice(0, 12)}`]) {
      const { exit, json, out } = await session.vcbWith(away, 'mount', what, await newTarget(session), '--json')
      expect({ exit, out: exit === 0 ? '' : out }).toEqual({ exit: 0, out: '' })
      expect(json()).toMatchObject({ point: run1.vms[0].point, vm: { name: 'web' } })
      if (what === 'web@latest') expect(await digestsOver(session, json())).toEqual(wanted)
      expect((await session.vcbWith(away, 'unmount', json().lease)).exit).toBe(0)
    }
    await session.expectClean()
  })
})

describe('a mount of type export', () => {
  test.each(['flat', 'split-sparse', 'streamOptimized'])(
    '%s: the VM as VCB exported it; its snapshot is gone when it is there',
    async (format) => {
      const directory = await newTarget(session)
      const mounted = await session.json(['mount', 'web', directory, '--type', 'export', '--export-format', format])
      expect(await snapshots()).toBe(0)
      const wanted = await session.frozenDigests('web')
      expect(mounted.disks.map((disk: Json) => disk.exported)).toEqual([
        join(directory, 'scsi0-0-0-web.vmdk'),
        join(directory, 'scsi0-1-0-web_1.vmdk'),
      ])
      for (const disk of mounted.disks) {
        const raw = join(session.directory, 'exported.raw')
        await run(requirePeer('qemu-img'), ['convert', '-f', 'vmdk', '-O', 'raw', disk.exported, raw])
        expect([disk.label, await digestOfFile(raw)]).toEqual([disk.label, wanted.get(disk.label)])
      }
      expect(await readFile(join(directory, 'web.vmx'), 'utf8')).toContain('scsi0-1-0-web_1.vmdk')
      const catalog = await readFile(join(directory, 'catalog'), 'utf8')
      expect(catalog).toContain('display_name= "web"')
      expect(catalog).toContain('disk.scsi0:1.filename= "scsi0-1-0-web_1.vmdk"')
      expect((await readdir(directory)).filter((name) => name !== '.vcb').sort()).toEqual(
        mounted.files.map((file: Json) => file.name).sort(),
      )
      expect(await session.json(['unmount', mounted.lease])).toMatchObject({ ended: true })
      await expect(stat(directory)).rejects.toThrow('ENOENT')
      await session.expectClean()
    },
  )

  test('together with the disks, from one snapshot', async () => {
    const mounted = await session.json(['mount', 'one', await newTarget(session), '--type', 'disk,export'])
    const wanted = await session.frozenDigests('one')
    expect(await digestsOver(session, mounted)).toEqual(wanted)
    const flat = mounted.disks[0].exported.replace(/\.vmdk$/, '-flat.vmdk')
    expect(await digestOfFile(flat)).toBe(wanted.get('scsi0:0'))
    expect(await snapshots()).toBe(1)
    expect(await session.json(['unmount', mounted.lease])).toMatchObject({ ended: true })
    await session.expectClean()
  })
})
