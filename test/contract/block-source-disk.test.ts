import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { type BlockSource, systemClock } from '../../src/core/index.ts'
import {
  exportDisk,
  faulty,
  localDiskFiles,
  memorySource,
  openChain,
  openDisk,
  openFlat,
  openLocalFile,
  overlay,
  ReadAheadRoom,
  readingAhead,
  retrying,
  throttled,
  zeroSource,
} from '../../src/disk/index.ts'
import { applyGrains, type Grains, writeFlatBase, writeRedoLog } from '../property/disk-writers.ts'
import { blockSourceContract } from './block-source-contract.ts'

const SIZE = 5 * 1024 * 1024 + 1536
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-contract-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

/** Data, zeros and more data, not aligned to anything. */
function picture(): Buffer {
  const image = Buffer.alloc(SIZE)
  for (const [offset, length] of [
    [0, 5000],
    [130_000, 9],
    [1_048_000, 300_000],
    [3_000_000, 700_000],
    [SIZE - 700, 700],
  ] as const) {
    for (let at = offset; at < offset + length; at++) image[at] = 1 + ((at * 31 + (at >> 9)) % 255)
  }
  return image
}

let made = 0
/** A directory of its own for each test. */
function fresh(): string {
  return mkdtempSync(join(directory, `${made++}-`))
}

blockSourceContract('memorySource', async () => ({ source: memorySource(picture()), image: picture() }))

blockSourceContract('memorySource with extents', async () => {
  const image = picture()
  const cut = 1_348_000
  return {
    source: memorySource(image.fill(0, cut), [
      { offset: 0, length: cut, kind: 'data' },
      { offset: cut, length: 1000, kind: 'zero' },
      { offset: cut + 1000, length: SIZE - cut - 1000, kind: 'absent' },
    ]),
    image,
  }
})

blockSourceContract('readingAhead', async () => ({
  source: readingAhead(memorySource(picture()), new ReadAheadRoom(4 * 1024 * 1024)),
  image: picture(),
}))

blockSourceContract('zeroSource', async () => ({ source: zeroSource(100_001), image: new Uint8Array(100_001) }))

blockSourceContract('openFlat on a local file', async () => {
  const path = join(fresh(), 'x.img')
  writeFileSync(path, picture())
  return { source: openFlat(await openLocalFile(path)), image: picture() }
})

for (const [format, flavour] of [
  ['flat', 'hosted'],
  ['flat', 'vmfs'],
  ['split-sparse', undefined],
  ['streamOptimized', undefined],
] as const) {
  blockSourceContract(`openDisk on ${format} ${flavour ?? ''}`, async () => {
    const image = picture()
    const target = fresh()
    await exportDisk(memorySource(image), target, 'd', format, { flavour })
    return { source: await openDisk(join(target, 'd.vmdk'), localDiskFiles()), image }
  })
}

blockSourceContract('a disk of many parts, ZERO and FLAT', async () => {
  const target = fresh()
  const image = picture().fill(0, 512 * 1000, 512 * 1100)
  writeFileSync(join(target, 'f.vmdk'), image)
  const rest = SIZE / 512 - 1100
  const lines = ['RW 1000 FLAT "f.vmdk" 0', 'RW 100 ZERO']
  for (let sector = 1100; sector < SIZE / 512; sector += Math.ceil(rest / 100)) {
    lines.push(`RW ${Math.min(Math.ceil(rest / 100), SIZE / 512 - sector)} FLAT "f.vmdk" ${sector}`)
  }
  const text = ['version=1', 'CID=00000001', 'createType="custom"', ...lines]
  writeFileSync(join(target, 'd.vmdk'), text.join('\n'))
  return { source: await openDisk(join(target, 'd.vmdk'), localDiskFiles()), image }
})

const redo = (unit: number): Grains =>
  new Map(
    [0, 1, 2, 7, 300, 301, 4095 % Math.ceil(SIZE / unit), Math.ceil(SIZE / unit) - 1].map((grain) => [
      grain,
      grain === 7 ? 'zero' : Buffer.alloc(unit, grain + 1),
    ]),
  )

for (const kind of ['cowd', 'sesparse'] as const) {
  const unit = kind === 'cowd' ? 512 : 4096
  const make = (): { path: string; target: string } => {
    const target = fresh()
    writeFlatBase(join(target, 'b.vmdk'), picture().subarray(0, SIZE - 1024), '0000000a')
    return { target, path: writeRedoLog(target, 'r', kind, SIZE, redo(unit), { hint: 'b.vmdk', cid: '0000000a' }, '0000000b') }
  }
  blockSourceContract(`openDisk on one link, ${kind}`, async () => ({
    source: await openDisk(make().path, localDiskFiles()),
    image: applyGrains(new Uint8Array(0), SIZE, unit, redo(unit)),
  }))
  blockSourceContract(`openChain on ${kind} over a shorter flat base`, async () => ({
    source: await openChain(make().path, localDiskFiles()),
    image: applyGrains(picture().subarray(0, SIZE - 1024), SIZE, unit, redo(unit)),
  }))
}

blockSourceContract('overlay', async () => {
  const image = picture()
  const top = memorySource(image, [
    { offset: 0, length: 1_048_100, kind: 'data' },
    { offset: 1_048_100, length: SIZE - 1_048_100, kind: 'absent' },
  ])
  return { source: overlay(top, memorySource(image)), image }
})

const wrapped = async (wrap: (source: BlockSource) => BlockSource): Promise<{ source: BlockSource; image: Uint8Array }> => ({
  source: wrap(memorySource(picture())),
  image: picture(),
})
blockSourceContract('retrying', () => wrapped((source) => retrying(source, { attempts: 3, delayMs: 1, maxDelayMs: 1 }, systemClock)))
blockSourceContract('throttled', () => wrapped((source) => throttled(source, 2 ** 40, systemClock)))
blockSourceContract('faulty without faults', () => wrapped((source) => faulty(source, () => undefined)))
