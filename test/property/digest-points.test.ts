import { hash, randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type BlockSource,
  createIds,
  type DiskRef,
  isZero,
  MIB,
  type PointId,
  type Range,
  rangeEnd,
  Secret,
  silentLog,
  systemClock,
} from '../../src/core/index.ts'
import { compareDigests } from '../../src/flow/compare-digests.ts'
import { blockBytesFor } from '../../src/provider/image-layout.ts'
import type { BackupProvider } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import type { BlockDigest } from '../../src/transport/index.ts'
import {
  diskRef,
  expectPoint,
  facts,
  nextTime,
  noise,
  plan,
  readAll,
  vmConfig,
  WatchedDisk,
  writePoint,
} from '../contract/provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

/* Incrementals by digests, through a real repository: the image is right, and only what differs is read. */
const ids = createIds()
let directory = ''
let provider: BackupProvider
beforeEach(async () => {
  directory = await fastDirectory('vcb-digest-points-')
})
afterEach(async () => {
  await provider[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})
const openRepository = (sizes: { readonly singleUpTo: number; readonly extentBytes: number }): Promise<BackupProvider> =>
  openResticProvider(join(directory, 'repository'), {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'proxy',
    username: 'vcb',
    pid: process.pid,
    password: new Secret('correct horse'),
    init: true,
    workers: 1,
    sizes,
    kdf: { N: 1024, r: 8, p: 1 },
  })

/** Digests of what `disk` holds, as a host that reads its files tells them. */
const digestsOf = (disk: { readonly bytes: Buffer }) =>
  async function* (range: Range, blockSize: number): AsyncGenerator<BlockDigest> {
    for (let offset = range.offset; offset < rangeEnd(range); offset += blockSize) {
      const bytes = disk.bytes.subarray(offset, Math.min(offset + blockSize, rangeEnd(range)))
      const at = { offset, length: bytes.length }
      yield isZero(bytes) ? { ...at, kind: 'zero' } : { ...at, kind: 'digest', sha256: hash('sha256', bytes, 'buffer') }
    }
  }

/** One more point of `disk` by comparison with `parent`; `lying`: whose digests are told instead of its own. */
async function pointByDigests(
  disk: WatchedDisk,
  ref: DiskRef,
  parent: PointId,
  lying: { readonly bytes: Buffer } = disk,
): Promise<{ id: PointId; areaBytes: number }> {
  await using writer = await provider.begin({ config: vmConfig('web01', [ref]), run: ids.run(), time: nextTime(), parent })
  const digests = await writer.parentDigests?.(ref)
  if (digests === undefined) throw new Error('this writer tells no digests')
  const { areas } = await compareDigests({ source: disk, digests: digestsOf(lying) }, digests)
  disk.reads.length = 0
  const written = await writer.putDisk(ref, disk, plan('incremental', [...areas]))
  expect(written.readBytes).toBeLessThanOrEqual(areas.bytes)
  const { id } = await writer.commit(facts('incremental', [{ disk: ref, written }]))
  return { id, areaBytes: areas.bytes }
}

/** What disks of these sizes are cut into. */
const BLOCK = blockBytesFor(4 * MIB)

const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.integer({ min: 1, max: MIB + 4096 }),
  kind: fc.constantFrom('noise', 'zero', 'same'),
})

describe('a point made by comparing digests', () => {
  for (const sizes of [
    { singleUpTo: 64 * MIB, extentBytes: 4 * MIB },
    { singleUpTo: MIB, extentBytes: 2 * MIB },
  ]) {
    it(`is the disk, night after night, in ${sizes.singleUpTo === MIB ? 'several extents' : 'one file'}`, async () => {
      provider = await openRepository(sizes)
      let run = 0
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 7 }),
          fc.constantFrom(0, 512, 65_536, MIB - 512),
          fc.array(fc.array(change, { maxLength: 4 }), { minLength: 1, maxLength: 3 }),
          async (mebibytes, tail, nights) => {
            const size = mebibytes * MIB + tail
            const ref = diskRef(2000, size)
            const bytes = noise(size, ++run)
            bytes.fill(0, 0, Math.min(size, MIB + 4096))
            let { id } = await writePoint(provider, [{ disk: ref, source: new WatchedDisk(Buffer.from(bytes)) }])
            for (const [night, changes] of nights.entries()) {
              const before = Buffer.from(bytes)
              for (const { at, length, kind } of changes) {
                const start = Math.floor(at * (size - 1))
                if (kind === 'zero') bytes.fill(0, start, start + length)
                if (kind === 'noise') noise(Math.min(length, size - start), `${run}/${night}/${start}`).copy(bytes, start)
              }
              let differing = 0
              for (let offset = 0; offset < size; offset += BLOCK) {
                const block = bytes.subarray(offset, offset + BLOCK)
                if (Buffer.compare(block, before.subarray(offset, offset + BLOCK)) !== 0) differing += block.length
              }
              const made = await pointByDigests(new WatchedDisk(Buffer.from(bytes)), ref, id)
              expect(made.areaBytes).toBe(differing)
              await expectPoint(provider, made.id, new Map([[2000, bytes]]))
              ;({ id } = made)
            }
          },
        ),
        { seed: 11, numRuns: 8 },
      )
    }, 120_000)
  }

  it('would be wrong if a digest were false: this test’s own eyes, and what the samples are for', async () => {
    provider = await openRepository({ singleUpTo: 64 * MIB, extentBytes: 4 * MIB })
    const ref = diskRef(2000, 4 * MIB)
    const before = noise(4 * MIB, 'before')
    const { id } = await writePoint(provider, [{ disk: ref, source: new WatchedDisk(before) }])
    const now = Buffer.from(before)
    noise(100, 'now').copy(now, 3 * MIB)
    // The first block is sampled and is right; of the last one the parent's digest is told.
    const made = await pointByDigests(new WatchedDisk(now), ref, id, { bytes: before })
    expect(made.areaBytes).toBe(0)
    await using reader = await provider.points?.open(made.id)
    await using image = await reader?.disk(2000)
    expect((await readAll(image as BlockSource)).equals(now)).toBe(false)
    // The same lie where the sample falls.
    noise(100, 'now').copy(now, 0)
    await expect(pointByDigests(new WatchedDisk(now), ref, id, { bytes: before })).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('is not made on a parent with another size, another disk, or none', async () => {
    provider = await openRepository({ singleUpTo: 64 * MIB, extentBytes: 4 * MIB })
    const ref = diskRef(2000, 2 * MIB)
    const { id } = await writePoint(provider, [{ disk: ref, source: new WatchedDisk(noise(2 * MIB, 1)) }])
    for (const [other, parent, message] of [
      [diskRef(2000, 3 * MIB), id, /another size/],
      [diskRef(2000, 2 * MIB - 512), id, /another size/],
      [diskRef(2001, 2 * MIB), id, /does not hold this disk/],
      [ref, undefined, /no parent point/],
    ] as const) {
      await using writer = await provider.begin({ config: vmConfig('web01', [other]), run: ids.run(), time: nextTime(), parent })
      await expect(writer.parentDigests?.(other)).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringMatching(message) })
    }
  })
})
