import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { canMount, expectNothingLeft, requireMounting } from '../mount-world.ts'
import { expectFiles, expectGone, VMS } from '../products/guest-files.ts'
import type { LabSession } from './lab-session.ts'
import { killHolder, leasesOf, openGuestFiles, owner, until, untilNoLease } from './mount-world.ts'
import { type VcbTools, vcbTools } from './vcb-tools.ts'

/* The files of guests as vcbMounter, vcbSnapAll and mountvm show them, and what becomes of the mounts when somebody dies. */
let session: LabSession
let tools: VcbTools
beforeAll(async () => {
  session = await openGuestFiles()
  tools = vcbTools(session)
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  if (canMount()) await expectNothingLeft(session.directory)
})

const place = (...names: readonly string[]): string => join(session.directory, ...names)
/** With this in vcb.yaml. */
async function withSettings(vcbToolsSection: string): Promise<Readonly<Record<string, string>>> {
  await writeFile(place('tools.yaml'), `vcbTools:\n  ${vcbToolsSection}\n`)
  return { VCB_CONFIG: place('tools.yaml') }
}
const mounter = join(import.meta.dirname, '..', '..', 'scripts', 'vcbMounter.cjs')

describe('vcbMounter -t file', () => {
  test.each(VMS)('of %s shows its files, until -U takes them away', async (vm, names) => {
    requireMounting()
    const directory = place('mnt', vm)
    const mounted = await tools.run('vcbMounter', '-a', `name:${vm}`, '-r', directory, '-t', 'file', '-m', 'nbd', '-M', '1', '-F', '1')
    expect(mounted).toMatchObject({ exit: 0, out: '', err: expect.stringMatching(`^${vm} is mounted in ${directory} until `) })
    expect(await leasesOf(session)).toMatchObject([{ vm, directory, job: 'vcbMounter', types: ['file'] }])
    const shown = await readdir(directory)
    expect(shown).toEqual(expect.arrayContaining(['digits']))
    await expectFiles(names, join(directory, 'digits', '1'))
    // Read-only, whatever a script tries.
    await expect(writeFile(join(directory, 'digits', '1', 'new'), '')).rejects.toThrow('EROFS')
    // The VM is taken, and the directory too.
    expect(await tools.run('vcbMounter', '-a', `name:${vm}`, '-r', place('mnt', 'other'), '-t', 'file')).toMatchObject({ exit: 6 })
    expect(await tools.run('vcbMounter', '-a', `name:${vm}`, '-r', directory, '-t', 'file')).toMatchObject({
      exit: 6,
      err: expect.stringContaining('is not empty'),
    })
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0, out: '' })
    expect(await tools.run('vcbMounter', '-U', directory, '-Q')).toMatchObject({ exit: 0, out: '', err: '' })
    expect(existsSync(directory)).toBe(false)
    await expectGone(session, 5000)
  })

  test('ends after its owner, or when nobody reads, and -U tells that once', async () => {
    requireMounting()
    const directory = place('alone')
    const script = await owner()
    await tools.runWith({ VCB_OWNER_PID: String(script.pid) }, 'vcbMounter', '-a', 'name:linux', '-r', directory, '-t', 'file')
    expect(await leasesOf(session)).toMatchObject([{ owner: script.pid }])
    await script[Symbol.asyncDispose]()
    await untilNoLease(session)
    await expectGone(session, 5000)
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({
      exit: 9,
      err: expect.stringMatching(`had ended\\.\n {5}Do not trust`),
    })
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0 })

    const idle = await withSettings('idle: 1s')
    expect(await tools.runWith(idle, 'vcbMounter', '-a', 'name:linux', '-r', directory, '-t', 'file')).toMatchObject({ exit: 0 })
    await untilNoLease(session)
    await expectGone(session, 5000)
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 9 })
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0 })
    // What never was there nobody can have copied.
    expect(await tools.run('vcbMounter', '-a', 'name:nobody', '-r', directory, '-t', 'file')).toMatchObject({ exit: 5 })
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0 })
  })

  test('hands a password on to its holder where no other user can read it', async () => {
    requireMounting()
    const secret = (await readFile(session.environment['VCB_PASSWORD_FILE'] ?? '', 'utf8')).trim()
    const allowed = { ...(await withSettings('passwordArgument: true')), VCB_PASSWORD_FILE: undefined }
    const mount = ['-p', secret, '-a', 'name:linux', '-r', place('secret'), '-t', 'file'] as const
    expect(await tools.runWith({ VCB_PASSWORD_FILE: undefined }, 'vcbMounter', ...mount)).toMatchObject({ exit: 2 })
    expect(await tools.runWith(allowed, 'vcbMounter', ...mount)).toMatchObject({ exit: 0 })
    const [{ holder }] = await leasesOf(session)
    expect(await readFile(`/proc/${holder}/cmdline`, 'utf8')).not.toContain(secret)
    expect((await stat(`/proc/${holder}/environ`)).mode & 0o077).toBe(0)
    expect(await tools.run('vcbMounter', '-U', '-r', place('secret'))).toMatchObject({ exit: 0 })
    await expectGone(session, 5000)
  })

  test('killed while it mounts leaves nothing', async () => {
    requireMounting()
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskMs: 2500 })
    const child = spawn(process.execPath, [mounter, '-a', 'name:linux', '-r', place('early'), '-t', 'file'], {
      env: { ...process.env, ...session.environment },
      stdio: 'ignore',
    })
    const ended = once(child, 'exit')
    await until('the snapshot', async () => (await session.lab.control.state()).tasks.some(({ state }) => state === 'running'))
    child.kill('SIGKILL')
    await ended
    await untilNoLease(session)
    expect(existsSync(place('early'))).toBe(false)
    await expectGone(session, 5000)
  })

  test('whose holder is killed: vcbCleanup releases it, and -U tells', async () => {
    requireMounting()
    const directory = place('held')
    await tools.out('vcbMounter', '-a', 'name:windows', '-r', directory, '-t', 'file')
    const [lease] = await leasesOf(session)
    expect(await tools.run('vcbCleanup', '-y')).toMatchObject({ exit: 0, err: expect.stringContaining('stays mounted') })
    await killHolder(lease.holder)
    expect(await tools.run('vcbCleanup', '-y')).toMatchObject({ exit: 0, out: '', err: '' })
    await expectGone(session, 5000)
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 9 })
    // As products that make the directory themselves want it: what an earlier run left mounted makes room, whether its holder lives or not.
    await writeFile(place('config.js'), 'PREEXISTING_MOUNTPOINT="delete";\n')
    for (let run = 0; run < 2; run++) {
      const again = { VCB_CONFIG_JS: place('config.js') }
      expect(await tools.runWith(again, 'vcbMounter', '-a', 'name:windows', '-r', directory, '-t', 'file')).toMatchObject({ exit: 0 })
    }
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0 })
    // Without vcbCleanup, -U releases it itself.
    await tools.out('vcbMounter', '-a', 'name:windows', '-r', directory, '-t', 'file')
    await killHolder((await leasesOf(session))[0]?.holder)
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 9 })
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0 })
    await expectGone(session, 5000)
  })
})

test('vcbSnapAll -t file mounts every VM; vcbCleanup ends the mounts where vcb.yaml wants that', async () => {
  requireMounting()
  const directory = place('all')
  const listed = await tools.out('vcbSnapAll', '-a', 'any:', '-r', directory, '-t', 'file')
  expect(listed.trim().split('\n').sort()).toEqual([join(directory, 'linux'), join(directory, 'windows')])
  for (const [vm, names] of VMS) await expectFiles(names, join(directory, vm, 'digits', '1'))
  expect(await tools.run('vcbSnapAll', '-a', 'any:', '-r', directory, '-t', 'file')).toMatchObject({ exit: 6, out: '' })
  expect(await tools.run('vcbMounter', '-U', '-r', join(directory, 'linux'))).toMatchObject({ exit: 0 })
  expect((await leasesOf(session)).map(({ vm }) => vm)).toEqual(['windows'])
  expect(await tools.runWith(await withSettings('cleanupMounts: true'), 'vcbCleanup', '-y')).toMatchObject({ exit: 0, out: '', err: '' })
  await expectGone(session, 5000)
})

describe('mountvm', () => {
  test('shows the files of exported disks, proven by their export, and of a bare VMDK', async () => {
    requireMounting()
    const away = { VCB_VCENTER: undefined, VCB_USER: undefined, VCB_PASSWORD_FILE: undefined }
    const mountvm = (...argv: readonly string[]) => tools.runWith(away, 'mountvm', ...argv)
    const target = place('picked')
    const [linux, windows] = VMS
    for (const [vm, names, ways] of [
      [...linux, ['disk', 'bare']],
      [...windows, ['whole']],
    ] as const) {
      const directory = place('images', vm)
      await tools.out('vcbMounter', '-a', `name:${vm}`, '-r', directory)
      const disk = `scsi0-0-0-${vm}.vmdk`
      // As it comes back from a tape, without what proves it.
      await cp(directory, place('bare', vm), { recursive: true, filter: (name) => !name.endsWith('SHA256SUMS') })
      const sources = { disk: join(directory, disk), whole: directory, bare: place('bare', vm, disk) }
      for (const way of ways) {
        expect(await mountvm('-d', sources[way], '-cycleId', target)).toMatchObject({ exit: 0, out: '' })
        await expectFiles(names, join(target, 'digits', '1'))
        expect(await mountvm('-u', target)).toMatchObject({ exit: 0, out: '' })
      }
    }
    expect(await mountvm('-u', target)).toMatchObject({ exit: 0, err: expect.stringContaining('Nothing is mounted') })
    await session.json(['backup', 'windows', '--init'])
    expect(await mountvm('-d', 'windows@latest', target)).toMatchObject({ exit: 0, out: '' })
    await expectFiles(windows[1], join(target, 'digits', '1'))
    expect(await mountvm('-u', target, '-Q')).toMatchObject({ exit: 0, out: '', err: '' })
    await expectGone(session, 5000)
  })

  test('refuses what is no disk, and never shows a byte that its export does not prove', async () => {
    expect(await tools.run('mountvm', '-d', place('no.vmdk'), place('x'))).toMatchObject({ exit: 5 })
    expect(await tools.run('mountvm', '-d', place('no.vmdk'))).toMatchObject({ exit: 2 })
    expect(await tools.run('mountvm', '-u', place('x'), '-d', 'y')).toMatchObject({ exit: 2 })
    await mkdir(place('text'))
    await writeFile(place('text', 'a.vmdk'), 'nothing of the kind')
    expect((await tools.run('mountvm', '-d', place('text', 'a.vmdk'), place('x'))).exit).toBe(9)
    requireMounting()
    const directory = place('damaged')
    await tools.out('vcbMounter', '-a', 'name:linux', '-r', directory, '-M', '1', '-F', '1')
    {
      await using flat = await open(join(directory, 'scsi0-0-0-linux-flat.vmdk'), 'r+')
      await flat.write(Buffer.alloc(4096, 0xa5), 0, 4096, 1024 * 1024 + 4096)
    }
    const damaged = await tools.run('mountvm', '-d', join(directory, 'scsi0-0-0-linux.vmdk'), place('x'))
    expect(damaged.exit).toBe(9)
    expect(existsSync(place('x'))).toBe(false)
    await rm(directory, { recursive: true })
    await expectGone(session, 5000)
  })
})
