import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { memorySource } from '../../src/disk/index.ts'
import { readVolumes, type Volume } from '../../src/mount/index.ts'
import { describePeers } from '../peer.ts'

const MIB = 1024 * 1024
type Listed = { readonly start: number; readonly size: number; readonly type: string; readonly uuid?: string; readonly name?: string }

describePeers(['sfdisk', 'sgdisk', 'parted'], 'partition tables of real programs', (peers) => {
  let directory = ''
  let image = ''
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'vcb-tables-'))
    image = join(directory, 'image')
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  const make = (mib: number): void => {
    rmSync(image, { force: true })
    writeFileSync(image, '')
    truncateSync(image, mib * MIB)
  }
  const sfdisk = (script: string): void =>
    void execFileSync(peers.sfdisk, ['-q', image], { input: script, stdio: ['pipe', 'ignore', 'pipe'] })
  const read = (change?: (bytes: Buffer) => void): Promise<readonly Volume[]> => {
    const bytes = readFileSync(image)
    change?.(bytes)
    return readVolumes([{ key: 2000, label: 'Hard disk 1', source: memorySource(bytes) }])
  }
  const listed = (): Listed[] => {
    const said: unknown = JSON.parse(execFileSync(peers.sfdisk, ['--json', image], { encoding: 'utf8' }))
    const partitions = (said as { partitiontable: { partitions: (Listed & { node: string })[] } }).partitiontable.partitions
    return partitions.filter((entry) => !['5', 'f', '85'].includes(entry.type)).toSorted((a, b) => a.start - b.start)
  }
  const sectors = (volumes: readonly Volume[]): unknown =>
    volumes.map((volume) => [(volume.partition?.offset ?? -1) / 512, volume.source.size / 512])
  const expectLikeSfdisk = (volumes: readonly Volume[]): void =>
    expect(sectors(volumes)).toEqual(listed().map((entry) => [entry.start, entry.size]))

  it('an MBR with primary and logical partitions', async () => {
    make(64)
    sfdisk(
      'label: dos\nlabel-id: 0xcafe1234\nsize=8MiB,type=83\nsize=40MiB,type=5\nsize=4MiB,type=c\nsize=6MiB,type=83\nsize=7MiB,type=82\nsize=9MiB,type=8e\n',
    )
    const volumes = await read()
    expectLikeSfdisk(volumes)
    expect(volumes).toHaveLength(5)
    expect(volumes.map((volume) => volume.partition?.index)).toEqual([1, 5, 6, 3, 4])
    expect(volumes.map((volume) => volume.partition?.type)).toEqual(['83', '82', '8e', '0c', '83'])
    expect(volumes.every((volume) => volume.partition?.diskSignature === 0xcafe1234)).toBe(true)
    expect(volumes.map((volume) => volume.number)).toEqual([1, 2, 3, 4, 5])
  })

  it('an extended partition made by parted', async () => {
    make(64)
    const steps = [
      'mklabel msdos',
      'mkpart primary ext4 1MiB 5MiB',
      'mkpart extended 5MiB 60MiB',
      'mkpart logical xfs 6MiB 20MiB',
      'mkpart logical ntfs 21MiB 60MiB',
    ]
    for (const step of steps) execFileSync(peers.parted, ['-s', image, ...step.split(' ')])
    const volumes = await read()
    expectLikeSfdisk(volumes)
    expect(volumes.map((volume) => volume.name)).toEqual(['disk0-part1', 'disk0-part5', 'disk0-part6'])
  })

  it('a GPT made by sgdisk, with its names, types and ids', async () => {
    make(64)
    const made = [
      '-n',
      '1:2048:+8M',
      '-t',
      '1:ef00',
      '-c',
      '1:EFI system',
      '-n',
      '2::+20M',
      '-t',
      '2:8300',
      '-c',
      '2:Wurzel ü',
      '-n',
      '7::+4M',
      '-t',
      '7:0c01',
    ]
    execFileSync(peers.sgdisk, [...made, image], { stdio: 'ignore' })
    const volumes = await read()
    expectLikeSfdisk(volumes)
    const said = listed()
    expect(volumes.map((volume) => volume.partition?.type)).toEqual(said.map((entry) => entry.type))
    expect(volumes.map((volume) => volume.partition?.uuid)).toEqual(said.map((entry) => entry.uuid?.toLowerCase()))
    expect(volumes.map((volume) => volume.partition?.name)).toEqual(said.map((entry) => entry.name))
    expect(volumes.map((volume) => volume.content)).toEqual([
      { kind: 'none', what: 'empty' },
      { kind: 'none', what: 'empty' },
      { kind: 'none', what: 'reserved' },
    ])
  })

  it('the copy of a GPT, when the first header or its entries are damaged', async () => {
    make(64)
    sfdisk('label: gpt\nsize=8MiB\nsize=16MiB\n')
    const whole = sectors(await read())
    for (const at of [512 + 60, 1024 + 33, 512]) expect(sectors(await read((bytes) => (bytes[at] = 0x5a)))).toEqual(whole)
    expect(sectors(await read((bytes) => bytes.fill(0, 0, 34 * 512)))).toEqual(whole)
    const [damaged, ...more] = await read((bytes) => {
      bytes[512 + 60] = 0x5a
      bytes[bytes.length - 512 + 60] = 0x5a
    })
    expect(more).toEqual([])
    expect(damaged?.content).toMatchObject({ kind: 'refused', what: 'damaged partition table' })
  })

  it('the GPT of a disk that was grown: the header says where its copy is', async () => {
    make(64)
    sfdisk('label: gpt\nsize=8MiB\nsize=16MiB\n')
    const whole = sectors(await read())
    truncateSync(image, 80 * MIB)
    expect(sectors(await read((bytes) => (bytes[1024 + 33] = 0x5a)))).toEqual(whole)
  })

  it('a hybrid table: the GPT counts', async () => {
    make(64)
    sfdisk('label: gpt\nsize=8MiB\nsize=16MiB\n')
    const whole = sectors(await read())
    execFileSync(peers.sgdisk, ['-h', '1', image], { stdio: 'ignore' })
    expect(sectors(await read())).toEqual(whole)
  })

  it('a disk that was cut: what does not fit is refused and not padded', async () => {
    make(64)
    sfdisk('label: dos\nsize=8MiB\nsize=50MiB\n')
    truncateSync(image, 32 * MIB)
    const [first, second] = await read()
    expect(first?.content.kind).toBe('none')
    expect(second?.content).toMatchObject({ kind: 'refused', what: 'damaged partition' })
    expect(second?.source.size).toBe(23 * MIB)
  })
})
