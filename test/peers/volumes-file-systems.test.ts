import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openFlat, openLocalFile } from '../../src/disk/index.ts'
import { readVolumes, type VolumeContent } from '../../src/mount/index.ts'
import { goldenVolume } from '../golden-volume.ts'
import { describePeers, type PeerName, requirePeer } from '../peer.ts'

const MIB = 1024 * 1024

describePeers(['blkid'], 'file systems of real programs, against blkid', (peers) => {
  let directory = ''
  let image = ''
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'vcb-file-systems-'))
    image = join(directory, 'image')
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  const made = (program: PeerName, mib: number, ...options: readonly string[]): void => {
    const path = requirePeer(program)
    rmSync(image, { force: true })
    writeFileSync(image, '')
    truncateSync(image, mib * MIB)
    execFileSync(path, [...options, image], { stdio: ['ignore', 'ignore', 'pipe'] })
  }
  const read = async (): Promise<VolumeContent | undefined> => {
    await using source = openFlat(await openLocalFile(image))
    const volumes = await readVolumes([{ key: 2000, label: 'Hard disk 1', source }])
    expect(volumes).toHaveLength(1)
    return volumes[0]?.content
  }
  const blkid = (): Record<string, string | undefined> =>
    Object.fromEntries(
      ['TYPE', 'UUID', 'LABEL'].map((tag) => {
        const said = spawnSync(peers.blkid, ['-p', '-o', 'value', '-s', tag, image], { encoding: 'utf8' }).stdout.trimEnd()
        return [tag, said === '' ? undefined : said]
      }),
    )
  const BLKID_TYPES: Readonly<Record<string, string>> = { vfat: 'fat' }

  it.each<[PeerName, number, readonly string[]]>([
    ['mkfs.ext4', 8, ['-q', '-L', 'root four']],
    ['mkfs.ext4', 8, ['-q', '-t', 'ext3', '-L', 'old']],
    ['mkfs.ext4', 8, ['-q', '-t', 'ext2']],
    ['mkfs.xfs', 320, ['-q', '-L', 'twelvechars_']],
    ['mkfs.xfs', 320, ['-q', '-m', 'crc=0', '-b', 'size=1024']],
    ['mkfs.btrfs', 120, ['-q', '-L', 'a label of btrfs']],
    ['mkntfs', 16, ['-q', '-F', '-Q', '-L', 'Größe & Co', '-s', '512', '-p', '0', '-H', '0', '-S', '0']],
    ['mkntfs', 16, ['-q', '-F', '-Q', '-c', '65536', '-s', '512', '-p', '0', '-H', '0', '-S', '0']],
    ['mkfs.vfat', 4, ['-F', '12', '-n', 'TWELVE']],
    ['mkfs.vfat', 32, ['-F', '16', '-n', 'SIXTEEN']],
    ['mkfs.vfat', 64, ['-F', '32', '-n', 'EFISYS']],
    ['mkfs.vfat', 64, ['-F', '32']],
    ['mkfs.exfat', 32, ['-L', 'Karte ä']],
  ])('%s, %i MiB, %j', async (program, mib, options) => {
    made(program, mib, ...options)
    const said = blkid()
    const type = said['TYPE'] ?? ''
    expect(await read()).toMatchObject({
      kind: 'file-system',
      type: BLKID_TYPES[type] ?? type,
      uuid: said['UUID'],
      label: said['LABEL'],
      dirty: false,
    })
  })

  it('swap', async () => {
    made('mkswap', 8)
    expect(await read()).toEqual({ kind: 'none', what: 'swap' })
  })

  it.each(['luks1', 'luks2'])('%s', async (type) => {
    const path = requirePeer('cryptsetup')
    rmSync(image, { force: true })
    writeFileSync(image, '')
    truncateSync(image, 32 * MIB)
    execFileSync(path, ['luksFormat', '-q', '--type', type, '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', image, '-'], {
      input: 'secret',
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    const content = await read()
    expect(content).toMatchObject({ kind: 'refused', what: type.toUpperCase() })
    expect(content?.kind === 'refused' && content.reason).toContain(blkid()['UUID'])
  })

  it('an ISO 9660 image', async () => {
    const path = requirePeer('genisoimage')
    writeFileSync(join(directory, 'file'), 'content')
    execFileSync(path, ['-quiet', '-V', 'TOOLS', '-o', image, join(directory, 'file')], { stdio: ['ignore', 'ignore', 'pipe'] })
    expect(await read()).toMatchObject({ kind: 'file-system', type: 'iso9660', label: 'TOOLS', uuid: blkid()['UUID'] })
  })

  it.each(['ext4', 'xfs', 'btrfs'])('a %s that was mounted when it was copied is dirty, the same unmounted is clean', async (type) => {
    for (const state of ['dirty', 'clean']) {
      const volumes = await readVolumes([{ key: 1, label: 'd', source: goldenVolume(`${state}-${type}`) }])
      expect(volumes[0]?.content).toMatchObject({
        kind: 'file-system',
        type,
        label: `golden-${type}`,
        dirty: state === 'dirty',
        note: undefined,
      })
    }
  })
})
