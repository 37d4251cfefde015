import { randomBytes } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { PruneReport, Repository } from '../../src/restic/index.ts'
import { describePeers } from '../peer.ts'
import { backupImage, readBack, ResticPlace, testImage } from './restic-fixture.ts'

const MIB = 1024 * 1024
const OPTIONS = { blockSize: 256 * 1024, packSize: 4 * MIB, workers: 2 } as const

type Point = { readonly id: string; readonly image: Buffer }

/** Images that share blocks: each is the one before with some of its blocks anew. */
async function history(repository: Repository, count: number): Promise<Point[]> {
  const points: Point[] = []
  let image = testImage(16)
  for (let number = 0; number < count; number++) {
    points.push({ id: await backupImage(repository, image), image })
    image = Buffer.from(image)
    for (let at = number; at < 16; at += 4) randomBytes(MIB / 2).copy(image, at * MIB)
  }
  return points
}

async function packBytes(place: ResticPlace): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(join(place.path, 'data'), { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  return bytes
}

async function expectSound(place: ResticPlace, kept: readonly Point[]): Promise<void> {
  const checked = await place.tryRestic('check', '--read-data')
  expect(checked, checked.stderr).toMatchObject({ status: 0 })
  expect(checked.stdout.toString()).toContain('no errors were found')
  expect(checked.stdout.toString() + checked.stderr).not.toMatch(/not referenced|additional files|duplicate/u)
  await using repository = await place.open(OPTIONS)
  expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
  for (const { id, image } of kept) {
    expect(Buffer.compare(await readBack(repository, id, 'vm', 'disk.img'), image)).toBe(0)
    expect(Buffer.compare(await place.restic('dump', id, '/vm/disk.img'), image)).toBe(0)
  }
}

/** What the other one would still do: "to delete", "total prune", "remaining", in its words. */
async function stockWouldFree(place: ResticPlace, limit: string): Promise<string> {
  const text = (await place.restic('prune', '--dry-run', '--max-unused', limit)).toString()
  return /total prune:.*/u.exec(text)?.[0] ?? text
}

describePeers(['restic'], 'a prune of ours, judged by stock restic', () => {
  it.each([
    { name: 'everything unused', mostUnused: { bytes: 0 }, limit: '0' },
    { name: 'five per cent unused', mostUnused: { percent: 5 }, limit: '5%' },
    { name: 'anything partly used left as it is', mostUnused: 'unlimited', limit: 'unlimited' },
  ] as const)('frees $name', async ({ mostUnused, limit }) => {
    await using place = await ResticPlace.make()
    const repository = await place.init(OPTIONS)
    const points = await history(repository, 5)
    const kept = points.filter((_point, number) => number === 1 || number === 4)
    await repository.snapshots.forget(points.filter((point) => !kept.includes(point)).map(({ id }) => id))

    const before = await packBytes(place)
    const planned = await repository.prune({ mostUnused, dryRun: true })
    expect(await packBytes(place)).toBe(before)
    const done: PruneReport = await repository.prune({ mostUnused })
    expect(done).toEqual(planned)
    const after = await packBytes(place)
    expect(done.before.bytes).toBe(before)
    // The lines of headers move with their blobs; each new pack has a few bytes of its own.
    expect(Math.abs(before - after - done.freedBytes)).toBeLessThan(2048)
    if (limit === '0') expect(done.unusedAfterBytes).toBe(0)
    if (limit === '5%') expect(done.unusedAfterBytes / (done.usedBytes + done.unusedAfterBytes)).toBeLessThanOrEqual(0.05)
    if (limit === 'unlimited') expect(done.repacked.packs).toBeLessThanOrEqual(3)
    expect(await stockWouldFree(place, limit)).toMatch(/total prune:\s+0 blobs/u)
    await repository[Symbol.asyncDispose]()
    await expectSound(place, kept)
  })
})
