import { readFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAgentError, MIB, type RunId, silentLog } from '../../src/core/index.ts'
import { ArchiveSkeleton } from '../../src/provider/archive-skeleton.ts'
import { FetchedSkeleton } from '../../src/provider/skeleton-bytes.ts'
import { TarArchive } from '../../src/provider/tar-archive.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { diskRef, noise, patterned, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

const RUN = 'skeletontest' as RunId
const SIZE = 3 * MIB + 512

/** An archive as the writer makes it: a disk in pieces, one that is all data, one that holds nothing. */
let archive: Buffer
let directory: string
beforeAll(async () => {
  directory = await fastDirectory('vcb-skeletons-')
  await using provider = await openTarProvider(directory, { log: silentLog })
  const pieces = Array.from({ length: 40 }, (_, index) => ({ offset: index * 65_536, length: 4096 }))
  await writePoint(provider, [
    { disk: diskRef(2000, SIZE), source: new WatchedDisk(patterned(SIZE, pieces)), ranges: pieces },
    { disk: diskRef(2001, 2 * MIB), source: new WatchedDisk(noise(2 * MIB, 1)) },
    { disk: diskRef(2002, MIB), source: new WatchedDisk(Buffer.alloc(MIB)), ranges: [] },
  ])
  archive = await readFile(join(directory, (await readdir(directory))[0] ?? ''))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

/** The skeleton of an archive that goes by in pieces of these sizes, again and again. */
async function skeletonOf(bytes: Buffer, sizes: readonly number[]): Promise<Buffer> {
  await using skeleton = await ArchiveSkeleton.open(RUN)
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 512
    await skeleton.add(bytes.subarray(at, at + size))
    at += size
  }
  await skeleton.end()
  return await readFile(skeleton.path)
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes)
}

describe('the skeleton of an archive', () => {
  it('is the same however the archive comes, holds no disk data, and opens as the archive does', async () => {
    const wanted = await skeletonOf(archive, [archive.length])
    expect(wanted.length).toBeLessThan(MIB / 4)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 5 }), async (sizes) => {
        const coarse = sizes.map((size) => size + 200)
        expect((await skeletonOf(archive, coarse)).equals(wanted)).toBe(true)
      }),
      { numRuns: 25, seed: 20261126 },
    )
    await using fetched = await FetchedSkeleton.load('the archive', once(wanted))
    expect(fetched.archiveBytes).toBe(archive.length)
    const asked: number[] = []
    const bytes = fetched.bytes(async (offset, into) => {
      asked.push(into.length)
      archive.copy(into, 0, offset)
    })
    await using opened = await TarArchive.read(bytes)
    expect(opened.manifest.images).toHaveLength(3)
    expect(asked).toEqual([])
    const all = Buffer.alloc(archive.length)
    await bytes.read(0, all)
    expect(all.equals(archive)).toBe(true)
    expect(asked.reduce((sum, length) => sum + length, 0)).toBe(40 * 4096 + 2 * MIB)
  })

  it('is refused when it is cut or damaged, or what it proves is', async () => {
    const whole = await skeletonOf(archive, [65_536])
    const opens = async (bytes: Buffer): Promise<string> => {
      try {
        await using fetched = await FetchedSkeleton.load('the archive', once(bytes))
        const never = async (): Promise<never> => Promise.reject(new Error('disk data was asked for'))
        await using opened = await TarArchive.read(fetched.bytes(never))
        return JSON.stringify(opened.manifest)
      } catch (error) {
        if (isAgentError(error, 'INTEGRITY', 'CONFIG')) return 'refused'
        throw error
      }
    }
    const good = await opens(whole)
    expect(good).toContain('web01')
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), async (at) => {
        expect(await opens(whole.subarray(0, at))).toBe('refused')
      }),
      { numRuns: 60, seed: 20261126 },
    )
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bad = Buffer.from(whole)
        bad[at] = (bad[at] ?? 0) ^ flip
        // Digests of blocks are proven when the disk is opened; everything else here.
        expect(['refused', good]).toContain(await opens(bad))
      }),
      { numRuns: 200, seed: 20261126 },
    )
  })
})
