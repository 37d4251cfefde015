import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { canMount, expectNothingLeft, kernelHas, requireMounting, run } from '../mount-world.ts'
import { peer, requirePeer } from '../peer.ts'
import type { Json, LabSession } from './lab-session.ts'
import { leasesOf, newTarget } from './mount-world.ts'
import { goldenFiles, openVolumeGuests, type VolumeGuests } from './volume-guests.ts'

/*
 * Every kind of file system, partition table and logical volume as `vcb mount --type file` shows it, from volumes that other programs made: of a snapshot, and of a restore point.
 * What is mounted is read by programs, because this process may be who serves it.
 */
let guests: VolumeGuests | undefined
let session: LabSession
let wanted: Awaited<ReturnType<typeof goldenFiles>>
beforeAll(async () => {
  if (!canMount() || peer('sfdisk') === undefined) return
  guests = await openVolumeGuests()
  session = guests.session
  wanted = await goldenFiles()
})
afterAll(() => session?.[Symbol.asyncDispose]())
afterEach(async () => {
  if (guests === undefined) return
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  await expectNothingLeft(session.directory)
})

const kernelHasAll = (): boolean => ['ext4', 'xfs', 'btrfs'].every(kernelHas)

function requireAll(): VolumeGuests {
  requireMounting()
  requirePeer('sfdisk')
  requirePeer('ntfs-3g')
  if (guests === undefined) throw new Error('unreachable: this was asked for before')
  return guests
}

/** SHA-256 of the files below a directory, by path; `many/` is counted elsewhere. */
async function digests(directory: string): Promise<Record<string, string>> {
  const text = await run('bash', '-euc', 'cd "$1"; find . -type f -not -path "*/many/*" -print0 | xargs -0 -r sha256sum', 'bash', directory)
  return Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => [line.slice(68), line.slice(0, 64)]),
  )
}

/** SHA-256 of the raw files. */
const imagesOf = (mounted: Json): Promise<readonly string[]> =>
  Promise.all(mounted.disks.map(async (disk: Json) => (await run('sha256sum', disk.file)).slice(0, 64)))

/** What was written into the dirty ones and synced before they were copied. */
const FSYNCED = Array.from({ length: 8 }, (_, index) => `written behind the last checkpoint, ${index + 1}`).join('\n')

async function expectLinux(mounted: Json): Promise<void> {
  const { directory, volumes } = mounted
  // A kernel without one of these names it, and the others are there.
  const known = volumes.filter(({ type }: Json) => type === 'fat' || kernelHas(type))
  expect(mounted.notMounted.filter(({ reason }: Json) => !String(reason).includes('the kernel of this proxy has no'))).toEqual([])
  if (!kernelHasAll()) expect(mounted.notMounted).not.toEqual([])
  const at = (name: string): string => join(directory, known.find((each: Json) => each.name === name)?.path[0] ?? 'none')
  expect(known.map(({ name, type, path }: Json) => [name, type, path])).toEqual(
    [
      ['disk0-part1', 'fat', ['digits/1', 'root/boot/efi']],
      ['disk0-part2', 'ext4', ['digits/2', 'root']],
      ['disk0-part3', 'xfs', ['digits/3', 'root/data']],
      ['disk1', 'btrfs', ['digits/4', 'root/home', 'root/var/log']],
      ['disk3-part1', 'ext4', ['digits/6']],
      ['disk3-part2', 'btrfs', ['digits/7']],
      ['disk3-part3', 'fat', ['digits/8']],
      ['disk3-part4', 'fat', ['digits/9']],
      ['files-vg-srv', 'ext4', ['digits/10', 'root/srv']],
    ].filter(([, type]) => type === 'fat' || kernelHas(String(type))),
  )
  for (const [name, volume] of [
    ['disk0-part1', 'fat32'],
    ['disk1', 'subvolumes-btrfs'],
    ['disk3-part3', 'fat16'],
    ['disk3-part4', 'fat12'],
    ['files-vg-srv', 'lvm-files'],
  ] as const)
    if (known.some((each: Json) => each.name === name)) expect([name, await digests(at(name))]).toEqual([name, wanted[volume]])
  // Every fsynced file, from journals that were not replayed when the snapshot was taken.
  for (const name of ['disk0-part3', 'disk3-part1', 'disk3-part2'])
    if (known.some((each: Json) => each.name === name))
      expect([name, (await run('bash', '-euc', 'cat "$1"/file?', 'bash', at(name))).trimEnd()]).toEqual([name, FSYNCED])
  // The guest's own tree, nested by its fstab, symbolic links that lead out of it as they are.
  const root = join(directory, 'root')
  expect(await run('cat', join(root, 'etc/hostname'))).toBe('golden-guest\n')
  expect((await run('readlink', join(root, 'usr/bin/leads-out'))).trim()).toBe('/etc/shadow')
  expect(await digests(join(root, 'boot/efi'))).toEqual(wanted['fat32'])
  expect(await digests(join(root, 'srv'))).toEqual(wanted['lvm-files'])
  expect(
    (await run('bash', '-euc', 'cd "$1"; ls many | wc -l; cat "many/a file with number 60"', 'bash', join(root, 'boot/efi'))).trim(),
  ).toBe('60\nfile 60')
  if (kernelHas('btrfs')) {
    expect((await run('cat', join(root, 'home/file'), join(root, 'home/nested/file'), join(root, 'var/log/messages'))).trim()).toBe(
      'at home\nin a subvolume of a subvolume\na line',
    )
    expect((await run('ls', join(root, 'home'))).trim().split('\n')).toEqual(['file', 'nested'])
  }
  if (kernelHas('xfs')) expect(await run('cat', join(root, 'data/file8'))).toContain('checkpoint, 8')
  expect((await run('stat', '-c', '%y %s %A', join(root, 'boot/efi/pieces.bin'))).trim()).toMatch(
    /^2026-03-04 0[0-9]:06:08\.0+ [+-]\d{4} 40000 -rwxr-xr-x$/,
  )
  const below = (await run('cat', '/proc/self/mountinfo'))
    .split('\n')
    .filter((line) => /\/dir\/(digits|root)/.test(line) && line.includes(directory))
  expect(below).toHaveLength(known.flatMap(({ path }: Json) => path).length)
  for (const line of below.map((each) => each.split(' ')[5] ?? ''))
    expect(line.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec']))
}

describe('a Linux with an EFI partition, ext4, XFS, btrfs, LVM and FAT', () => {
  test('is shown with all its files, as files and as images from one snapshot, and its disks are as they were', async () => {
    const at = requireAll()
    const mounted = await session.json(['mount', 'linux', await newTarget(session), '--type', 'disk,file'])
    const before = [...(await session.frozenDigests('linux')).values()]
    await expectLinux(mounted)
    // What replaying wrote is in no image, and on no disk.
    expect(await imagesOf(mounted)).toEqual(before)
    const done = await session.json(['unmount', mounted.lease, '--read-all'])
    expect(done).toMatchObject({ ended: true, held: [] })
    for (const use of done.facts.disks.filter(({ kind }: Json) => kind === 'volume'))
      expect([use.label, use.readBytes > 0]).toEqual([use.label, true])
    expect(await at.stored('linux')).toEqual(before)
    await session.expectClean()
  })

  test('is shown the same from a restore point, which is as it was', async () => {
    requireAll()
    const { vms } = await session.json(['backup', 'linux', '--init', '--mode', 'full'])
    const away = { VCB_VCENTER: undefined, VCB_USER: undefined }
    const { exit, json } = await session.vcbWith(away, 'mount', 'linux@latest', await newTarget(session), '--type', 'disk,file', '--json')
    expect([exit, json().point]).toEqual([0, vms[0].point])
    await expectLinux(json())
    expect(await imagesOf(json())).toEqual([...(await session.frozenDigests('linux')).values()])
    expect((await session.vcbWith(away, 'unmount', json().lease, '--read-all')).exit).toBe(0)
    await session.expectClean()
  })
})

describe('a Windows', () => {
  test('has its drive letters, streams and security; what is encrypted, ReFS or dynamic is refused by name', async () => {
    const at = requireAll()
    const before = await at.stored('windows')
    const mounted = await session.json(['mount', 'windows', await newTarget(session), '--type', 'file'])
    expect(mounted.volumes).toMatchObject([
      { name: 'disk0-part1', type: 'ntfs', label: 'golden-win', path: ['digits/1', 'letters/C'] },
      { name: 'disk0-part2', type: 'fat', path: ['digits/2', 'letters/E'] },
    ])
    expect(mounted.notMounted.map(({ what, reason }: Json) => `${what}: ${reason}`)).toEqual([
      expect.stringMatching(/^disk1-part1 \(LUKS2\): It is encrypted/),
      expect.stringMatching(/^disk1-part2 \(BitLocker\): It is encrypted/),
      expect.stringMatching(/^disk1-part3 \(ReFS\): /),
      expect.stringMatching(/^disk2-part1 \(.*dynamic.*\): /i),
    ])
    const letters = join(mounted.directory, 'letters')
    expect(await digests(join(letters, 'C'))).toEqual(wanted['windows-ntfs'])
    expect(await digests(join(letters, 'E'))).toEqual(wanted['fat16'])
    const read = (what: string): Promise<string> =>
      run('python3', '-c', `import os, sys; print(${what})`, join(letters, 'C', 'Users', 'a.txt'))
    expect(await read('os.listxattr(sys.argv[1]), os.getxattr(sys.argv[1], "user.secret")')).toBe("['user.secret'] b'hidden\\n'\n")
    // As scripts/make-mount-fixtures.sh set it: owner and group are the administrators, everybody may read.
    expect((await read('os.getxattr(sys.argv[1], "system.ntfs_acl").hex()')).trim()).toBe(
      '0100049014000000240000000000000034000000010200000000000520000000200200000102000000000005200000002002000002001c00010000000000140089001200010100000000000100000000',
    )
    expect(await session.json(['unmount', mounted.directory])).toMatchObject({ ended: true, held: [] })
    expect(await at.stored('windows')).toEqual(before)
    await session.expectClean()
  })
})
