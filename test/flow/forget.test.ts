import { execFile } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openSqliteCatalog } from '../../src/catalog/index.ts'
import { openState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Points of real VMs in a real repository, in which stock restic keeps backups of its own. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const pointsOf = async (vm: string): Promise<string[]> => (await session.json(['points', vm])).points.map(({ id }: Json) => id)
const backUp = async (vm: string): Promise<Json> => (await session.json(['backup', vm, '--quiesce', 'none'])).vms[0]

describePeer('restic', 'vcb forget', (program) => {
  const restic = async (...argv: readonly string[]): Promise<string> => {
    const env = { ...process.env, RESTIC_REPOSITORY: session.repository, RESTIC_PASSWORD: session.repositoryPassword }
    const { stdout } = await promisify(execFile)(program, ['--no-cache', ...argv], { env, maxBuffer: 64 * 1024 * 1024 })
    return stdout
  }
  const snapshots = async (): Promise<string[]> =>
    (JSON.parse(await restic('snapshots', '--json')) as { readonly id: string }[]).map(({ id }) => id)
  const strangers: string[] = []

  it('keeps what the policy says of the selected VMs, and touches neither other VMs nor the snapshots of others', async () => {
    const files = join(session.directory, 'files')
    await mkdir(files)
    for (const [index, tags] of [[], ['vcb'], ['vm:a-stranger', 'mode:full']].entries()) {
      await writeFile(join(files, 'file'), `version ${index}`)
      await restic('backup', files, '--host', 'web01', ...tags.flatMap((tag) => ['--tag', tag]))
    }
    strangers.push(...(await snapshots()))
    expect(strangers).toHaveLength(3)
    for (let night = 0; night < 3; night++) await backUp('web01')
    for (let night = 0; night < 2; night++) await backUp('win01')
    const before = await pointsOf('web01')

    const plan = await session.json(['forget', 'web01', '--keep-last', '2', '--dry-run'])
    expect(plan).toMatchObject({ dryRun: true, unreadable: [] })
    expect(plan.vms).toHaveLength(1)
    expect(plan.vms[0].points.map(({ id, keep }: Json) => [id, keep])).toEqual(before.toReversed().map((id, index) => [id, index < 2]))
    expect(plan.vms[0].points[0].reasons).toEqual(['last 2', 'the last complete point of the VM'])
    expect(await pointsOf('web01')).toEqual(before)

    const done = await session.json(['forget', 'web01', '--keep-last', '2'])
    expect(done.vms[0].points.filter(({ forgotten }: Json) => forgotten).map(({ id }: Json) => id)).toEqual([before[0]])
    expect(await pointsOf('web01')).toEqual(before.slice(1))
    expect(await pointsOf('win01')).toHaveLength(2)
    const left = await snapshots()
    expect(left.toSorted()).toEqual([...strangers, ...before.slice(1), ...(await pointsOf('win01'))].toSorted())
    await restic('check')
    expect((await session.json(['check', '--structure-only'])).problems).toEqual([])
    await session.expectClean()
    await using state = await openState(join(session.environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'))
    const known = await openSqliteCatalog(state).find({ vmName: 'web01' })
    expect(known.map(({ id }) => id as string).toSorted()).toEqual(before.slice(1).toSorted())
  })

  it('is done when it is done: again, it removes nothing', async () => {
    const again = await session.json(['forget', 'web01', '--keep-last', '2'])
    expect(again.vms[0].points.every(({ keep, forgotten }: Json) => keep && !forgotten)).toBe(true)
  })

  it('lets the next incremental build on an older point when its parent was forgotten, or read in full with the reason', async () => {
    const [older, newest = ''] = await pointsOf('web01')
    const refused = await session.vcb('forget', newest, '--json')
    expect(refused).toMatchObject({ exit: 2 })
    expect(refused.json().error.message).toContain('is the last complete point of the VM')
    expect(await pointsOf('web01')).toContain(newest)
    await session.json(['forget', newest, '--even-the-last'])
    expect(await pointsOf('web01')).toEqual([older])
    const next = await backUp('web01')
    expect(next).toMatchObject({ ok: true, mode: 'incremental' })
    await session.json(['forget', ...(await pointsOf('web01')), '--even-the-last'])
    const full = await backUp('web01')
    expect(full).toMatchObject({ ok: true, mode: 'full' })
    expect(full.disks[0].modeReason).toContain('there is no earlier point')
    await restic('check', '--read-data')
  })

  it('after "restic prune" every point that was kept is whole', async () => {
    await restic('prune')
    await restic('check', '--read-data')
    expect((await session.json(['check'])).problems).toEqual([])
    expect(await snapshots()).toEqual(expect.arrayContaining(strangers))
  })

  it('does not touch the snapshots of others when they are named, nor a point that is tagged to be kept', async () => {
    const stranger = await session.vcb('forget', strangers[0] ?? '', '--even-the-last')
    expect(stranger.exit).toBe(5)
    expect(stranger.err).toContain('is not a restore point of vcb')
    const [first = ''] = await pointsOf('win01')
    await restic('tag', '--add', 'hold', first)
    const plan = await session.json(['forget', 'win01', '--keep-last', '1', '--keep-tag', 'hold', '--dry-run'])
    expect(plan.vms[0].points.map(({ keep }: Json) => keep)).toEqual([true, true])
    expect(plan.vms[0].points[1].reasons).toContain('tag hold')
  })

  it('waits for nobody: while stock restic holds the repository nothing is removed', async () => {
    const before = await pointsOf('win01')
    const lock = join(session.repository, 'locks')
    // A lock of another host, as a running "restic backup" leaves it there.
    const slow = promisify(execFile)(program, ['--no-cache', 'backup', '--stdin', '--stdin-filename', 'slow'], {
      env: { ...process.env, RESTIC_REPOSITORY: session.repository, RESTIC_PASSWORD: session.repositoryPassword },
    })
    for (let tries = 0; (await readdir(lock)).length === 0 && tries < 200; tries++) await new Promise((resolve) => setTimeout(resolve, 50))
    const refused = await session.vcb('forget', 'win01', '--keep-last', '1')
    slow.child.stdin?.end('data')
    await slow
    expect(refused).toMatchObject({ exit: 6 })
    expect(refused.err).toContain('is locked')
    expect(await pointsOf('win01')).toEqual(before)
  })

  it.each([
    [[], 'Neither a policy nor a restore point was given.'],
    [['web01'], 'is not a snapshot id'],
    [['--keep-last', '0'], 'The policy keeps nothing'],
    [['--keep-last', '-1'], 'not a whole number'],
    [['--keep-within', 'a while'], 'is not a duration'],
    [['--keep-daily', '7', '--time-zone', 'Mars/Base'], 'is not a time zone'],
    [['--keep-daily', '7', '--even-the-last'], '--even-the-last is for points'],
    [['folder:/DC', '--keep-daily', '7'], 'cannot be answered from a repository'],
  ])('%j is a wrong use and removes nothing', async (argv, said) => {
    const before = (await session.json(['points'])).points.length
    const result = await session.vcb('forget', ...argv)
    expect(result.err).toContain(said)
    expect(result.exit).toBe(2)
    expect((await session.json(['points'])).points).toHaveLength(before)
  })

  it('names what a repository does not know, and shows people why', async () => {
    expect((await session.vcb('forget', 'nobody', '--keep-last', '1')).exit).toBe(5)
    const shown = await session.vcb('forget', '--keep-last', '1', '--dry-run', '--time-zone', 'UTC')
    expect(shown.exit).toBe(0)
    expect(shown.out).toMatch(/^web01: would forget 0, keep 1\n/)
    expect(shown.out).toMatch(/\nwin01: would forget 1, keep 1\n/)
    expect(shown.out).toContain('the last complete point of the VM')
  })
})
