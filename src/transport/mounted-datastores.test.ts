import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DatastoreRef, MIB } from '../core/index.ts'
import { mapDatastores } from './mounted-datastores.ts'
import { below, mountOf, parseMountInfo } from './mount-info.ts'
import { nfsMatches, plainHost } from './nfs-mount.ts'
import { lunHere } from './vmfs-mount.ts'

const datastore = (name: string, more: Partial<DatastoreRef> = {}): DatastoreRef => ({
  moref: `datastore-${name}`,
  name,
  type: 'NFS',
  url: `ds:///vmfs/volumes/${name}-uuid/`,
  capacityBytes: 1,
  freeBytes: 1,
  accessible: true,
  ...more,
})

const mounts = parseMountInfo(
  [
    '22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw',
    '44 22 0:50 / /mnt/backup\\040here rw shared:1 - nfs4 Filer:/exports/vm\\040store rw,vers=4.1,addr=10.0.0.7',
    '45 22 0:51 / /mnt/six rw master:3 propagate_from:2 - nfs [fe80::1]:/vol6/ rw',
    '46 22 0:52 / /mnt/pseudo ro - nfs4 nas.example.com:/vols/one ro,addr=2001:db8::9',
    '47 22 0:53 / /mnt/all rw - nfs filer2:/exports rw,addr=10.0.0.8',
    '48 22 0:53 /deep /mnt/bind rw - nfs filer2:/exports rw,addr=10.0.0.8',
    'rubbish',
  ].join('\n'),
)
const nobody = async () => []
const nas = (remoteHost: string, remotePath: string, remoteHosts?: string[]) =>
  datastore('x', { nas: { remoteHost, remotePath, remoteHosts } })
const find = async (store: DatastoreRef, look = nobody as (host: string) => Promise<readonly string[]>) =>
  (await nfsMatches(store, mounts, look)).map(({ directory, how }) => `${how} ${directory}`)

describe('mounted NFS exports', () => {
  test('are found by server and path, with escapes decoded, never by name', async () => {
    expect(await find(nas('filer', '/exports/vm store/'))).toEqual(['exact /mnt/backup here'])
    expect(await find(nas('fe80:0::1', '//vol6'))).toEqual(['exact /mnt/six'])
    expect(await find(nas('other', '/exports/vm store'))).toEqual([])
    expect(await find(datastore('backup here'))).toEqual([])
  })

  test('by an address the server is mounted from, by aliases, by any server of an NFS41 datastore', async () => {
    expect(await find(nas('10.0.0.7', '/exports/vm store'))).toEqual(['exact /mnt/backup here'])
    expect(await find(nas('::ffff:10.0.0.7', '/exports/vm store'))).toEqual(['exact /mnt/backup here'])
    expect(await find(nas('alias', '/exports/vm store'), async (host) => (host === 'alias' ? ['10.9.9.9', '10.0.0.7'] : []))).toEqual([
      'exact /mnt/backup here',
    ])
    expect(await find(nas('10.1.1.1', '/exports/vm store', ['10.1.1.1', 'FILER.']))).toEqual(['exact /mnt/backup here'])
  })

  test('through a mount of a directory above it, and below the root an NFSv4 server shows', async () => {
    expect(await find(nas('filer2', '/exports/deep'))).toEqual(['exact /mnt/bind', 'within /mnt/all/deep'])
    expect(await find(nas('2001:DB8:0::9', '/export/vols/one'))).toEqual(['pseudo /mnt/pseudo'])
    expect(await find(nas('nas.example.com', '/export/vols/oneone'))).toEqual([])
  })

  test('addresses are compared as addresses', () => {
    expect([plainHost('[2001:DB8:0::1]'), plainHost('fe80::1%eth0'), plainHost('Filer.'), plainHost('::ffff:1.2.3.4')]).toEqual([
      '2001:db8::1',
      'fe80::1',
      'filer',
      '1.2.3.4',
    ])
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV6(), fc.ipV4()), (host) => {
        expect(plainHost(plainHost(host))).toBe(plainHost(host))
      }),
    )
  })

  test('a directory lies on the longest mount above it', () => {
    expect(mountOf('/mnt/all/deep/x', mounts)?.mountPoint).toBe('/mnt/all')
    expect(mountOf('/mnt/allother', mounts)?.mountPoint).toBe('/')
    expect([below('/a/b', '/a'), below('/ab', '/a'), below('/a', '/'), below('/a', '/a')]).toEqual(['b', undefined, 'a', ''])
  })
})

describe('mounted datastores', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-mounts-'))
    await mkdir(join(directory, 'proc', '42'), { recursive: true })
    await mkdir(join(directory, 'gold'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  const UUID = '00000001-00000002-0003-040506070809'
  const vmfs = (uuid: string, ...extents: string[]) => datastore('gold', { type: 'VMFS', vmfs: { uuid, extents } })
  /** A LUN by docs/formats/vmfs-header.md, and a FUSE mount of it as /proc shows one. */
  const mounted = async (options = 'rw') => {
    const image = Buffer.alloc(3 * MIB)
    image.writeUInt32LE(0xc001d00d, MIB)
    const header = image.subarray(2 * MIB)
    header.writeUInt32LE(0x2fabf15e, 0)
    header.writeUInt32LE(24, 4)
    header.writeUInt32LE(1, 9)
    header.writeUInt32LE(2, 13)
    header.writeUInt16LE(3, 17)
    header.write('040506070809', 19, 'hex')
    header.writeBigUInt64LE(BigInt(MIB), 0xa1)
    await writeFile(join(directory, 'lun'), image)
    await symlink(join(directory, 'lun'), join(directory, 'wwn-0x600a'))
    const words = ['/usr/sbin/vmfs6-fuse', '-o', 'ro,allow_other', join(directory, 'wwn-0x600a'), join(directory, 'gold'), '']
    await writeFile(join(directory, 'proc', '42', 'cmdline'), words.join('\0'))
    await writeFile(
      join(directory, 'mountinfo'),
      `22 1 254:0 / / rw - ext4 /dev/vda1 rw\n50 22 0:60 / ${join(directory, 'gold')} ${options} - fuse.vmfs6-fuse vmfs6-fuse rw,user_id=0\n`,
    )
  }
  const map = (stores: DatastoreRef[], configured: Record<string, string> = {}) =>
    mapDatastores(stores, { configured, mountInfoPath: join(directory, 'mountinfo'), processes: join(directory, 'proc') })

  test('a VMFS volume is found by the uuid on its LUN', async () => {
    await mounted('ro')
    expect((await map([vmfs(UUID, 'naa.600a')])).get('gold')).toEqual({
      directory: join(directory, 'gold'),
      by: 'vmfs',
      identified: true,
      what: `VMFS volume ${UUID} in ${join(directory, 'gold')}`,
      readOnly: true,
      refusal: undefined,
    })
    expect((await map([vmfs('00000001-00000002-0003-040506070800')])).size).toBe(0)
  })

  test('a volume with a LUN missing, and a map to another volume, are refused by name', async () => {
    await mounted()
    const one = (await map([vmfs(UUID, 'naa.600a', 'naa.600b')])).get('gold')
    expect([one?.readOnly, one?.refusal]).toEqual([
      false,
      `datastore gold spans 2 LUNs (naa.600a, naa.600b), and only 1 of them is mounted in ${join(directory, 'gold')}`,
    ])
    const swapped = (await map([vmfs('ffffffff-00000002-0003-040506070809')], { gold: join(directory, 'gold') })).get('gold')
    expect(swapped?.refusal).toContain(`is the VMFS volume ${UUID}; datastore gold is ffffffff-00000002-0003-040506070809`)
  })

  test('a configured directory comes first, by the uuid where two datastores have one name', async () => {
    await mounted()
    await mkdir(join(directory, 'other'))
    const store = datastore('x', { nas: { remoteHost: 'filer', remotePath: '/exports' } })
    expect((await map([store], { x: directory, 'x-uuid': join(directory, 'other') })).get('x')).toMatchObject({
      directory: join(directory, 'other'),
      by: 'configured',
      identified: false,
    })
    expect((await map([store], { x: join(directory, 'gone') })).get('x')?.refusal).toContain('does not exist')
  })

  test('an attached LUN is found by the name vSphere has for it, over all its paths first', async () => {
    for (const name of ['wwn-0x600b', 'scsi-3600b', 'dm-uuid-mpath-3600b']) await writeFile(join(directory, name), '')
    expect(await lunHere('naa.600B', directory)).toBe(join(directory, 'dm-uuid-mpath-3600b'))
    expect([await lunHere('naa.1', directory), await lunHere('t10.x', directory), await lunHere('naa.1', join(directory, 'none'))]).toEqual(
      [undefined, undefined, undefined],
    )
  })
})
