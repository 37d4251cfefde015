import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { canMount, leftovers, requireMounting, run } from '../mount-world.ts'
import type { Json, LabSession } from './lab-session.ts'
import { killHolder, leasesOf, newTarget, openGuestFiles } from './mount-world.ts'

/* File systems of guests, and raw files, as `vcb mount` shows them: read by programs, because what is mounted must not be read by who may serve it. */
let session: LabSession
beforeAll(async () => {
  session = await openGuestFiles()
}, 60_000)
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  if (canMount()) expect(await leftovers(session.directory)).toEqual([])
})

const digests = async (mounted: Json): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>()
  for (const disk of mounted.disks) found.set(disk.label, (await run('sha256sum', disk.file)).slice(0, 64))
  return found
}

describe('a mount', () => {
  test.each([
    ['linux', 'ext4'],
    ['windows', 'ntfs'],
  ])(
    'of %s shows its disk as a raw file and its %s file system, from one snapshot',
    async (vm, type) => {
      requireMounting()
      const directory = await newTarget(session)
      const mounted = await session.json(['mount', vm, directory, '--type', 'disk,file'])
      expect(mounted).toMatchObject({ types: ['disk', 'file'], notMounted: [] })
      expect(await digests(mounted)).toEqual(await session.frozenDigests(vm))
      expect(Number(await run('stat', '--format', '%b', mounted.disks[0].file))).toBeGreaterThan(0)
      const volume = mounted.volumes.find((each: Json) => each.type === type)
      expect(volume.path[0]).toBe(`digits/${volume.number}`)
      const files = await run('find', `${directory}/${volume.path[0]}`, '-type', 'f', '-size', '+0', '-print')
      expect(files.split('\n').length).toBeGreaterThan(2)
      // Every byte of every file can be read.
      await run('bash', '-euc', 'find "$1" -type f -print0 | xargs -0 -r cat > /dev/null', 'bash', `${directory}/${volume.path[0]}`)
      const done = await session.json(['unmount', mounted.lease, '--read-all'])
      expect(done).toMatchObject({ ended: true, held: [] })
      expect(done.facts.disks.map((use: Json) => use.kind)).toContain('volume')
      await session.expectClean()
    },
    60_000,
  )

  test('whose holder is killed leaves nothing after recover', async () => {
    requireMounting()
    const mounted = await session.json(['mount', 'linux', await newTarget(session), '--type', 'disk,file'])
    await killHolder((await leasesOf(session))[0]?.holder)
    expect((await session.json(['recover'])).recovered).toMatchObject([{ job: mounted.lease, closed: true }])
    await session.expectClean()
  }, 60_000)

  test('of type file alone says what nobody can mount', async () => {
    requireMounting()
    const mounted = await session.json(['mount', 'linux', await newTarget(session), '--type', 'file'])
    expect(mounted.disks[0].nbdUri).toBeUndefined()
    expect((await session.vcb('unmount', mounted.directory)).exit).toBe(0)
    await session.expectClean()
  }, 60_000)
})
