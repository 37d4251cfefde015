import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type BlockSource, isAgentError } from '../../src/core/index.ts'
import { memorySource } from '../../src/disk/index.ts'
import { layOut, readVolumes } from '../../src/mount/index.ts'
import { parseFstab } from '../../src/mount/volumes/fstab.ts'
import { readHiveValues } from '../../src/mount/volumes/hive.ts'
import { parseLvmText } from '../../src/mount/volumes/lvm-text.ts'
import { emptyHive } from '../empty-hive.ts'
import { goldenVolume, sparseSource } from '../golden-volume.ts'
import { dice, type Dice, ended, junk, mutated } from './mutate.ts'

const BLOCK = 4096
/** Bytes that one look at a disk may read, whatever is on it. */
const MOST_READ = 64 * 1024 * 1024

type Counted = { readonly source: BlockSource; readonly bytes: () => number }

/** `below` with some of its bytes changed where formats keep what matters, counting what is read. */
function damaged(below: BlockSource, roll: Dice): Counted {
  const spots = [0, 440, 446, 454, 458, 510, 512, 540, 552, 1024, 1080, 4096, 4136, 65_536, below.size - 512]
  const changes = Array.from({ length: 1 + roll.below(6) }, () => ({
    at: Math.min(below.size - 1, roll.one(spots) + roll.below(roll.one([4, 64, 512, 70_000]))),
    value: roll.one([0, 1, 0x7f, 0x80, 0xff, roll.below(256)]),
  }))
  let bytes = 0
  const source: BlockSource = {
    ...below,
    size: below.size,
    extents: (range, options) => below.extents(range, options),
    [Symbol.asyncDispose]: async () => {},
    read: async (offset, into, options) => {
      bytes += into.length
      if (bytes > MOST_READ) throw new Error('reads too much')
      await below.read(offset, into, options)
      for (const { at, value } of changes) if (at >= offset && at < offset + into.length) into[at - offset] = value
    },
  }
  return { source, bytes: () => bytes }
}

async function look(sources: readonly BlockSource[], what: string): Promise<void> {
  const volumes = await ended(readVolumes(sources.map((source, key) => ({ key, label: 'disk', source }))), what)
  expect(volumes.length).toBeLessThan(3000)
  const total = sources.reduce((sum, source) => sum + source.size, 0)
  for (const volume of volumes) {
    expect(volume.source.size).toBeLessThanOrEqual(total * 2)
    const head = Buffer.alloc(Math.min(BLOCK, volume.source.size))
    await volume.source.read(volume.source.size - head.length, head)
    if (volume.content.kind === 'refused') expect(volume.content.reason).toMatch(/\.$/)
  }
}

const IMAGES = ['dirty-ext4', 'dirty-xfs', 'clean-xfs', 'dirty-btrfs', 'lvm-a', 'lvm-b'] as const

it('a disk that was damaged anywhere is told as something, and little of it is read', async () => {
  const images = [...IMAGES.map((name) => goldenVolume(name)), goldenVolume('ext4', 'guest-disks'), goldenVolume('ntfs', 'guest-disks')]
  for (let seed = 0; seed < 600; seed++) {
    const roll = dice(seed)
    await look([damaged(roll.one(images), roll).source], `seed ${seed}`)
  }
})

it('two disks of one volume group, damaged', async () => {
  const [a, b] = [goldenVolume('lvm-a'), goldenVolume('lvm-b')]
  for (let seed = 0; seed < 200; seed++) await look([damaged(a, dice(seed)).source, damaged(b, dice(seed + 1000)).source], `seed ${seed}`)
})

it('noise, with and without the marks of formats, of any size', async () => {
  const marks = [
    [510, '\x55\xaa'],
    [512, 'EFI PART'],
    [3, 'NTFS    '],
    [3, 'EXFAT   '],
    [0, 'XFSB'],
    [1080, '\x53\xef'],
    [65_600, '_BHRfS_M'],
    [512, 'LABELONE'],
    [32_769, 'CD001'],
    [0, 'LUKS\xba\xbe'],
  ] as const
  for (let seed = 0; seed < 400; seed++) {
    const roll = dice(seed)
    const size = roll.one([0, 1, 511, 512, 513, 4096, 70_000, 200_000])
    const noise = Buffer.from(Array.from({ length: Math.min(size, 70_000) }, () => (roll.below(3) === 0 ? roll.below(256) : 0)))
    const disk = Buffer.concat([noise, Buffer.alloc(size - noise.length)])
    if (roll.below(2) === 0) disk.fill(0, 440, Math.min(size, 510))
    for (const [at, mark] of marks) if (roll.below(4) === 0 && at + mark.length <= size) disk.write(mark, at, 'latin1')
    await look([memorySource(disk)], `seed ${seed}`)
  }
})

it('a disk of 62 TiB costs no more than a small one', async () => {
  const sample = goldenVolume('ntfs', 'guest-disks')
  const head = Buffer.alloc(BLOCK)
  await sample.read(0, head)
  for (let seed = 0; seed < 50; seed++) {
    const sparse = sparseSource(62 * 1024 ** 4, (block) => (block % 1000 === 0 ? head : undefined))
    await look([damaged(sparse, dice(seed)).source], `seed ${seed}`)
  }
})

it('metadata of a volume group, hives and fstabs of rubbish end in an error of ours or in nothing', () => {
  const text = Buffer.from('vg { id = "a" seqno = 1 physical_volumes { pv0 { id = "x" } } list = ["a", 1, [2]] # c\n }')
  const hive = emptyHive()
  const fstab = Buffer.from('UUID=R / ext4 defaults 0 1\nLABEL=x /home\\040x btrfs subvol=@ 0 0\n')
  for (let seed = 0; seed < 3000; seed++) {
    const roll = dice(seed)
    const attempts = [
      () => parseLvmText(mutated(text, text.length, roll).toString('latin1')),
      () => readHiveValues(mutated(hive, roll.one([64, 4300, 8192]), roll), ['root', 'x']),
      () => readHiveValues(Buffer.concat([hive.subarray(0, 4096), junk(roll), hive.subarray(4096)]), ['x']),
      () => parseFstab(mutated(fstab, fstab.length, roll)),
    ]
    for (const attempt of attempts) {
      try {
        attempt()
      } catch (error) {
        expect(isAgentError(error, 'INTEGRITY'), String(error)).toBe(true)
      }
    }
  }
})

it('a layout of rubbish has only paths that stay in the mount directory', async () => {
  const volumes = await readVolumes([{ key: 1, label: 'disk', source: goldenVolume('ext4', 'guest-disks') }])
  const fstab = readFileSync(join(import.meta.dirname, 'volumes.test.ts'))
  for (let seed = 0; seed < 200; seed++) {
    const roll = dice(seed)
    const lines = Array.from(
      { length: 20 },
      () =>
        `LABEL=labroot ${roll.one(['/', '/a/', '/../', '/./', '\\057..', '//'])}${junk(roll).toString('latin1').replaceAll(/\s/g, '/')} ext4`,
    )
    const { places } = await layOut(volumes, [1], async (_, names) =>
      names.at(-1) === 'fstab' ? Buffer.from([...lines, fstab.toString()].join('\n'), 'latin1') : undefined,
    )
    for (const { path } of places) {
      expect(path).toMatch(/^(digits|letters|root)(\/|$)/)
      expect(path.split('/').some((name) => name === '' || name === '.' || name === '..' || name.includes('\0'))).toBe(false)
    }
  }
})
