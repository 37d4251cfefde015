import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createIds, GIB, KIB, MIB, type Range, rangeEnd, Secret, silentLog, systemClock, totalLength } from '../../src/core/index.ts'
import { BLOCK_SIZES } from '../../src/provider/image-layout.ts'
import type { BackupProvider } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import {
  diskRef,
  expectPoint,
  facts,
  nextTime,
  noise,
  patterned,
  streamed,
  vmConfig,
  WatchedDisk,
  writePoint,
} from '../contract/provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-block-sizes-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))
const ids = createIds()
let repositories = 0

const open = (name: string, sizes?: { singleUpTo: number; extentBytes: number; blockBytes?: number }): Promise<BackupProvider> =>
  openResticProvider(join(directory, name), {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'proxy',
    username: 'vcb',
    pid: process.pid,
    password: new Secret('pw'),
    init: true,
    workers: 1,
    sizes,
    kdf: { N: 1024, r: 8, p: 1 },
  })

/** Sorted, joined where they touch, inside the disk. */
function tidy(size: number, changes: readonly { at: number; length: number }[]): Range[] {
  const ranges: { offset: number; length: number }[] = []
  const sorted = changes.map(({ at, length }) => ({ offset: Math.floor(at * (size - 512)), length })).sort((a, b) => a.offset - b.offset)
  for (const { offset, length } of sorted) {
    const end = Math.min(size, offset + length)
    const last = ranges.at(-1)
    if (last !== undefined && offset <= rangeEnd(last)) last.length = Math.max(rangeEnd(last), end) - last.offset
    else ranges.push({ offset, length: end - offset })
  }
  return ranges
}

it('an incremental goes on in blocks of its parent’s size, and is the disk', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...BLOCK_SIZES),
      fc.boolean(),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(0, 512, 300 * KIB),
      fc.array(
        fc.array(fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), length: fc.integer({ min: 1, max: 700 * KIB }) }), {
          maxLength: 4,
        }),
        {
          minLength: 1,
          maxLength: 3,
        },
      ),
      async (blockBytes, several, mebibytes, tail, nights) => {
        const name = `repository-${++repositories}`
        const size = mebibytes * MIB + tail
        const cut = several ? { singleUpTo: 1, extentBytes: 2 * MIB } : { singleUpTo: 16 * GIB, extentBytes: 4 * GIB }
        const ref = diskRef(2000, size)
        // The second half is empty: blocks of zeros are changed in part, too.
        const bytes = patterned(size, [{ offset: 0, length: Math.floor(size / 2) }], repositories)
        let parent
        {
          await using provider = await open(name, { ...cut, blockBytes })
          parent = (await writePoint(provider, [{ disk: ref, source: new WatchedDisk(Buffer.from(bytes)) }])).id
        }
        await using provider = await open(name, cut)
        for (const [night, changes] of nights.entries()) {
          const ranges = tidy(size, changes)
          for (const { offset, length } of ranges) noise(length, `${repositories}/${night}/${offset}`).copy(bytes, offset)
          const source = new WatchedDisk(Buffer.from(bytes))
          await using writer = await provider.begin({ config: vmConfig('web01', [ref]), run: ids.run(), time: nextTime(), parent })
          const written = await writer.putDisk(ref, source, { mode: 'incremental', ranges: streamed(ranges) })
          const { id, manifest } = await writer.commit(facts('incremental', [{ disk: ref, written }]))
          expect(manifest.images).toMatchObject([{ blockSize: blockBytes }])
          expect(written.changedBytes).toBe(totalLength(ranges))
          expect(written.readBytes).toBe(totalLength(ranges))
          await expectPoint(provider, id, new Map([[2000, Buffer.from(bytes)]]))
          parent = id
        }
      },
    ),
    { seed: 7, numRuns: 15 },
  )
})
