import { describe, expect, it } from 'vitest'
import { emptyHive } from '../../../test/empty-hive.ts'
import { zeroSource } from '../../disk/index.ts'
import { parseFstab, volumeNamed } from './fstab.ts'
import { readHiveValues } from './hive.ts'
import { layOut, type ReadGuestFile } from './lay-out.ts'
import type { FileSystemType, Volume, VolumePartition } from './volume.ts'

type Part = Partial<VolumePartition> & { readonly scheme: 'mbr' | 'gpt' }

function volume(
  number: number,
  type: FileSystemType | undefined,
  facts: { uuid?: string; label?: string; part?: Part; lv?: [string, string] },
): Volume {
  const { uuid, label, part, lv } = facts
  return {
    number,
    name: `v${number}`,
    source: zeroSource(512),
    content:
      type === undefined ? { kind: 'none', what: 'swap' } : { kind: 'file-system', type, uuid, label, dirty: false, note: undefined },
    partition: part && { disk: 2000, index: 1, type: '83', uuid: undefined, name: undefined, diskSignature: undefined, offset: 0, ...part },
    logical: lv && { group: lv[0], name: lv[1] },
  }
}

const files =
  (content: Readonly<Record<string, string | Uint8Array>>): ReadGuestFile =>
  async ({ number }, names) => {
    const found = content[`${number}:${names.join('/')}`]
    return found === undefined ? undefined : Buffer.from(found)
  }
const paths = ({ places }: Awaited<ReturnType<typeof layOut>>): string[] =>
  places.map(({ path, volume: { number }, subvolume }) => `${path}=${number}${subvolume === undefined ? '' : `:${subvolume}`}`)

describe('fstab of a Linux', () => {
  it('names volumes by uuid, label, partition, logical volume and order of the disks', () => {
    const volumes = [
      volume(1, 'fat', { uuid: '1A2B-3C4D', part: { scheme: 'gpt', uuid: 'aaaa-bb', name: 'EFI system' } }),
      volume(2, 'ext4', { uuid: 'cafe', label: 'my root', part: { scheme: 'mbr', disk: 2001, index: 5, diskSignature: 0xcafe12 } }),
      volume(3, 'xfs', { uuid: 'beef', lv: ['guest-vg', 'home'] }),
    ]
    const named = (what: string): number | undefined => volumeNamed(what, volumes, [2000, 2001])?.number
    expect(named('UUID=1a2b-3c4d')).toBe(1)
    expect(named('UUID="cafe"')).toBe(2)
    expect(named('LABEL=my root')).toBe(2)
    expect(named('/dev/disk/by-label/my\\x20root')).toBe(2)
    expect(named('PARTLABEL=EFI system')).toBe(1)
    expect(named('PARTUUID=AAAA-BB')).toBe(1)
    expect(named('PARTUUID=00cafe12-05')).toBe(2)
    expect(named('/dev/sdb5')).toBe(2)
    expect(named('/dev/nvme1n1p5')).toBe(2)
    expect(named('/dev/mapper/guest--vg-home')).toBe(3)
    expect(named('/dev/guest-vg/home')).toBe(3)
    for (const nobody of ['UUID=', 'LABEL=undefined', '/dev/sdc1', '/dev/mapper/guest-vg-home', 'UUID=nope', '/dev/sda'])
      expect(named(nobody)).toBeUndefined()
  })

  it('nests the mount points, parents first, and leaves out what is no file system', async () => {
    const volumes = [
      volume(1, 'fat', { uuid: 'E' }),
      volume(2, undefined, {}),
      volume(3, 'ext4', { uuid: 'R' }),
      volume(4, 'ext4', { uuid: 'B' }),
    ]
    const fstab = `# comment
UUID=E /boot/efi vfat umask=0077 0 1
UUID=B\t/boot ext4 defaults 0 2
UUID=R / ext4 errors=remount-ro 0 1
UUID=S none swap sw 0 0
tmpfs /tmp tmpfs defaults 0 0
server:/x /mnt/x nfs defaults 0 0
/srv /mnt/srv none bind 0 0
UUID=gone /data\\040disk xfs defaults 0 2
`
    const layout = await layOut(volumes, [2000], files({ '3:etc/fstab': fstab }))
    expect(paths(layout)).toEqual(['digits/1=1', 'digits/3=3', 'digits/4=4', 'root=3', 'root/boot=4', 'root/boot/efi=1'])
    expect(layout.notes).toEqual(['The guest mounts "UUID=gone" at /data disk; no volume here answers to that.'])
  })

  it('never leads out of the mount directory', async () => {
    const volumes = [volume(1, 'ext4', { uuid: 'R' }), volume(2, 'ext4', { uuid: 'X' })]
    const points = [
      '/../../etc',
      '/a/../../etc',
      '/./x',
      'etc',
      '../etc',
      '/x\\057..\\057..\\057etc',
      `/${'a/'.repeat(40)}`,
      `/${'a'.repeat(300)}`,
      '/a\\000b',
      '/..',
    ]
    const layout = await layOut(
      volumes,
      [2000],
      files({ '1:etc/fstab': ['UUID=R / ext4', ...points.map((point) => `UUID=X ${point} ext4`)].join('\n') }),
    )
    expect(paths(layout)).toEqual(['digits/1=1', 'digits/2=2', 'root=1'])
    expect(layout.notes).toHaveLength(points.length)
  })

  it('is that of the volume that it calls /, where two have one', async () => {
    const volumes = [volume(1, 'ext4', { uuid: 'OLD' }), volume(2, 'ext4', { uuid: 'NEW' })]
    const fstab = 'UUID=NEW / ext4\nUUID=OLD /old ext4\n'
    expect(paths(await layOut(volumes, [2000], files({ '1:etc/fstab': fstab, '2:etc/fstab': fstab })))).toEqual([
      'digits/1=1',
      'digits/2=2',
      'root=2',
      'root/old=1',
    ])
  })

  it('of a btrfs is found in its subvolumes', async () => {
    const volumes = [volume(1, 'btrfs', { uuid: 'R' })]
    const fstab = 'UUID=R / btrfs subvol=@\nUUID=R /home btrfs noatime,subvol=/@home,ssd\nUUID=R /evil btrfs subvol=../x\n'
    expect(paths(await layOut(volumes, [2000], files({ '1:@/etc/fstab': fstab })))).toEqual([
      'digits/1=1',
      'root=1:@',
      'root/home=1:@home',
      'root/evil=1',
    ])
  })

  it('of rubbish is parsed without an error', () => {
    expect(parseFstab(Buffer.from('\0\0\n\n/ / /\n# x\n\\777 \\999 ext4\n')).entries).toHaveLength(1)
    expect(parseFstab(Buffer.alloc(100_000, 10)).entries).toEqual([])
  })
})

describe('a registry hive', () => {
  it('without the key has no letters; a damaged one is a note', async () => {
    const volumes = [volume(1, 'ntfs', { part: { scheme: 'mbr', diskSignature: 1, offset: 1 } })]
    const hive = emptyHive()
    expect(readHiveValues(hive, ['MountedDevices'])).toBeUndefined()
    const system = '1:Windows/System32/config/SYSTEM'
    expect(await layOut(volumes, [2000], files({ [system]: hive }))).toMatchObject({ notes: [], places: [{ path: 'digits/1' }] })
    const layout = await layOut(volumes, [2000], files({ [system]: 'no hive' }))
    expect(layout.notes).toEqual([expect.stringContaining('cannot be read: it does not begin as one')])
    expect(paths(layout)).toEqual(['digits/1=1'])
  })
})
