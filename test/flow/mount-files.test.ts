import { chmod, mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { requirePeer } from '../peer.ts'
import { canMount, expectNothingLeft, requireMounting, run } from '../mount-world.ts'
import type { Json, LabSession } from './lab-session.ts'
import { killHolder, leasesOf, newTarget, openGuestFiles } from './mount-world.ts'

/* File systems of guests, and raw files, as `vcb mount` shows them: read by programs, because what is mounted must not be read by who may serve it. */
let session: LabSession
beforeAll(async () => {
  session = await openGuestFiles()
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  if (canMount()) await expectNothingLeft(session.directory)
})

const digests = async (mounted: Json): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>()
  for (const disk of mounted.disks) found.set(disk.label, (await run('sha256sum', disk.file)).slice(0, 64))
  return found
}

describe('a mount', () => {
  test.each([
    ['linux', 'ext4'],
    ['windows', 'ntfs'],
  ])('of %s shows its disk as a raw file and its %s file system, from one snapshot', async (vm, type) => {
    requireMounting()
    const directory = await newTarget(session)
    const mounted = await session.json(['mount', vm, directory, '--type', 'disk,file'])
    expect(mounted).toMatchObject({ types: ['disk', 'file'], notMounted: [] })
    expect(await digests(mounted)).toEqual(await session.frozenDigests(vm))
    expect(Number(await run('stat', '--format', '%b', mounted.disks[0].file))).toBeGreaterThan(0)
    const volume = mounted.volumes.find((each: Json) => each.type === type)
    expect(volume.path[0]).toBe(`digits/${volume.number}`)
    const files = await run('find', `${directory}/${volume.path[0]}`, '-type', 'f', '-size', '+0', '-print')
    expect(files.split('\n').length).toBeGreaterThan(2)
    // Every byte of every file can be read.
    await run('bash', '-euc', 'find "$1" -type f -print0 | xargs -0 -r cat > /dev/null', 'bash', `${directory}/${volume.path[0]}`)
    const done = await session.json(['unmount', mounted.lease, '--read-all'])
    expect(done).toMatchObject({ ended: true, held: [] })
    expect(done.facts.disks.map((use: Json) => use.kind)).toContain('volume')
    await session.expectClean()
  })

  test('whose holder is killed leaves nothing after recover', async () => {
    requireMounting()
    const mounted = await session.json(['mount', 'linux', await newTarget(session), '--type', 'disk,file'])
    await killHolder((await leasesOf(session))[0]?.holder)
    expect((await session.json(['recover'])).recovered).toMatchObject([{ job: mounted.lease, closed: true }])
    await session.expectClean()
  })

  test('of type file alone says what nobody can mount', async () => {
    requireMounting()
    const mounted = await session.json(['mount', 'linux', await newTarget(session), '--type', 'file'])
    expect(mounted.disks[0].nbdUri).toBeUndefined()
    expect((await session.vcb('unmount', mounted.directory)).exit).toBe(0)
    await session.expectClean()
  })
})

describe('a mount for one reader', () => {
  /** What an account of this machine, which is in no other group, gets of a program. */
  const as = async (user: string, ...words: readonly string[]): Promise<{ readonly ok: boolean; readonly out: string }> => {
    const argv = [`--reuid=${user}`, `--regid=${user === 'nobody' ? 'nogroup' : user}`, '--clear-groups', ...words]
    try {
      return { ok: true, out: await run(requirePeer('setpriv'), ...argv) }
    } catch (error) {
      return { ok: false, out: String(error) }
    }
  }

  test('shows raw files, exports and NBD to that user, and to nobody else; without the option to root alone', async () => {
    requireMounting()
    await chmod(session.directory, 0o755)
    const directory = await newTarget(session)
    await chmod(dirname(directory), 0o755)
    const mounted = await session.json(['mount', 'linux', directory, '--type', 'disk,export', '--allow-user', 'nobody'])
    const [disk] = mounted.disks
    const wanted = (await session.frozenDigests('linux')).get(disk.label)
    expect(await as('nobody', 'sha256sum', disk.file)).toMatchObject({ ok: true, out: expect.stringContaining(String(wanted)) })
    expect((await as('nobody', 'sha256sum', disk.exported.replace(/\.vmdk$/, '-flat.vmdk'))).out.slice(0, 64)).toBe(wanted)
    expect((await as('nobody', requirePeer('nbdinfo'), '--size', disk.nbdUri)).out.trim()).toBe(String(disk.bytes))
    expect(JSON.parse((await as('nobody', 'cat', join(directory, '.vcb', 'manifest.json'))).out)).toEqual(mounted)
    // It reads, and no more.
    for (const words of [
      ['touch', disk.file],
      ['touch', join(directory, 'mine')],
      ['rm', '-f', disk.exported],
      ['mv', join(directory, '.vcb'), join(directory, 'x')],
    ])
      expect(await as('nobody', ...words)).toMatchObject({ ok: false })
    for (const path of [disk.file, disk.exported, join(directory, '.vcb', 'manifest.json')])
      expect(await as('daemon', 'cat', path)).toMatchObject({ ok: false, out: expect.stringContaining('Permission denied') })
    expect(await as('daemon', requirePeer('nbdinfo'), '--size', disk.nbdUri)).toMatchObject({ ok: false })
    expect(await session.json(['unmount', mounted.lease])).toMatchObject({ ended: true, held: [] })

    const closed = await session.json(['mount', 'linux', directory])
    for (const path of [closed.disks[0].file, directory]) expect(await as('nobody', 'ls', path)).toMatchObject({ ok: false })
    await session.json(['unmount', closed.lease])
    await session.expectClean()
  })

  test('shows them to the members of a group, in a directory that was there', async () => {
    requireMounting()
    await chmod(session.directory, 0o755)
    const directory = await newTarget(session)
    await mkdir(directory, { mode: 0o755 })
    await chmod(dirname(directory), 0o755)
    const mounted = await session.json(['mount', 'linux', directory, '--allow-group', 'daemon'])
    const [disk] = mounted.disks
    expect((await as('daemon', 'sha256sum', disk.file)).out.slice(0, 64)).toBe((await session.frozenDigests('linux')).get(disk.label))
    expect((await as('daemon', requirePeer('nbdinfo'), '--size', disk.nbdUri)).ok).toBe(true)
    expect((await as('nobody', 'cat', disk.file)).ok).toBe(false)
    await session.json(['unmount', mounted.lease])
    expect((await stat(directory)).mode & 0o777).toBe(0o755)
    await session.expectClean()
  })

  test('is refused for a user who is none, and for file systems, before anything is done', async () => {
    requireMounting()
    const refused = async (...flags: readonly string[]): Promise<Json> =>
      (await session.json(['mount', 'linux', await newTarget(session), ...flags], 2)).error
    expect(await refused('--allow-user', 'no-such-user')).toMatchObject({ message: 'There is no user "no-such-user" on this machine.' })
    expect(await refused('--allow-group', '-s')).toMatchObject({ code: 'USAGE' })
    expect(await refused('--allow-user', 'nobody', '--type', 'disk,file')).toMatchObject({
      message: expect.stringContaining('--type file'),
    })
    expect(await leasesOf(session)).toEqual([])
    await session.expectClean()
  })
})
