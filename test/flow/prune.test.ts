import { execFile, type ExecFileOptions } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { directoryBackend, openRepository } from '../../src/restic/index.ts'
import { describePeer } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Points of real VMs, forgotten and pruned; stock restic judges. */
const SCENARIO = {
  name: 'prune',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: ['web01', 'win01'].map((name) => ({
        name,
        power: 'poweredOn',
        changeTracking: true,
        disks: [{ size: '8MiB', content: 'random' }],
      })),
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const pointsOf = async (vm: string): Promise<string[]> => (await session.json(['points', vm])).points.map(({ id }: Json) => id)
const backUp = async (vm: string): Promise<string> => (await session.json(['backup', vm, '--quiesce', 'none'])).vms[0].point

async function packBytes(): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(join(session.repository, 'data'), { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  return bytes
}

describePeer('restic', 'vcb prune', (program) => {
  const restic = async (...argv: readonly string[]): Promise<string> => {
    const env = { ...process.env, RESTIC_REPOSITORY: session.repository, RESTIC_PASSWORD: session.repositoryPassword }
    const options: ExecFileOptions & { encoding: 'utf8' } = { env, maxBuffer: 64 * 1024 * 1024, encoding: 'utf8' }
    return (await promisify(execFile)(program, ['--no-cache', ...argv], options)).stdout
  }

  it('frees what forgotten points held, as it said before, and the next incremental goes on', async () => {
    for (let night = 0; night < 3; night++) {
      if (night > 0) await session.lab.control.write('web01', { percent: 10, seed: night })
      await backUp('web01')
    }
    await backUp('win01')
    await session.json(['forget', 'web01', '--keep-last', '1'])
    for (const id of await pointsOf('win01')) await session.json(['forget', id, '--even-the-last'])

    const before = await packBytes()
    const planned = await session.json(['prune', '--dry-run', '--max-unused', '0'])
    expect(planned).toMatchObject({ dryRun: true, snapshots: 1, unusedAfterBytes: 0, before: { bytes: before } })
    expect(await packBytes()).toBe(before)
    const done = await session.json(['prune', '--max-unused', '0'])
    expect(done).toEqual({ ...planned, dryRun: false })
    expect(done.freedBytes).toBeGreaterThan(0)
    expect(Math.abs(before - (await packBytes()) - done.freedBytes)).toBeLessThan(2048)
    await session.expectClean()
    await restic('check', '--read-data')
    expect(await restic('prune', '--dry-run', '--max-unused', '0')).toMatch(/total prune:\s+0 blobs/u)
    await session.expectRight('web01', (await pointsOf('web01'))[0] ?? '')

    await session.lab.control.write('web01', { percent: 5, seed: 7 })
    const next = await backUp('web01')
    await restic('check', '--read-data')
    await session.expectRight('web01', next)
    expect((await session.json(['check'])).problems).toEqual([])
  })

  it('reads what stock restic pruned, and stock restic goes on after it', async () => {
    await session.lab.control.write('web01', { percent: 5, seed: 8 })
    await backUp('web01')
    await session.json(['forget', 'web01', '--keep-last', '1'])
    await restic('prune', '--max-unused', '0')
    const [left = ''] = await pointsOf('web01')
    await session.expectRight('web01', left)
    expect(await session.json(['prune', '--max-unused', '0'])).toMatchObject({ freedBytes: 0, unreferenced: { packs: 0 } })
    await restic('check', '--read-data')
  })

  it('says in words what it does, and refuses what it cannot prune', async () => {
    const shown = await session.vcb('prune', '--dry-run')
    expect(shown).toMatchObject({ exit: 0 })
    expect(shown.out).toContain('needed by 1 snapshots')
    expect(shown.out).toMatch(/Would free \S+ \S+ in restic:/u)
    expect((await session.vcb('prune', '--max-unused', 'a little', '--json')).json()).toMatchObject({
      error: { code: 'USAGE', message: expect.stringContaining('--max-unused') },
    })
    const directory = join(session.directory, 'exports')
    await mkdir(directory)
    const other = await session.vcb('prune', '--repo', `dir:${directory}`, '--json')
    expect(other.json().error).toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('is not pruned: the space of a point that is forgotten is free at once'),
    })
  })

  it('keeps a backup from its snapshot for as long as it has the repository for itself', async () => {
    const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'another', username: 'somebody', pid: 1 }
    await using repository = await openRepository(directoryBackend(session.repository), new Secret(session.repositoryPassword), deps)
    const snapshots = async (): Promise<number> =>
      (await session.lab.control.state()).tasks.filter(({ name }) => name === 'CreateSnapshotEx_Task').length
    const before = await snapshots()
    {
      // The lock that a prune holds, as another host has it.
      await using _alone = await repository.snapshots.beginForget()
      const refused = await session.vcb('backup', 'web01', '--quiesce', 'none', '--json')
      expect(refused.json().vms[0].error).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('is locked exclusively') })
      expect((await session.vcb('prune', '--json')).json().error).toMatchObject({ code: 'CONFLICT' })
    }
    expect(await snapshots()).toBe(before)
    await session.expectClean()
    {
      // And the other way round: somebody who writes or reads.
      await using _reading = await repository.beginRead()
      expect((await session.vcb('prune', '--json')).json().error).toMatchObject({ code: 'CONFLICT' })
      expect(await session.json(['prune', '--dry-run'])).toMatchObject({ snapshots: 1 })
    }
    await backUp('web01')
  })
})
