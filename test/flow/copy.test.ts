import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import { describePeer } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Points of a VM of the lab, stored a second time in other repositories, of which stock restic judges its own kind. */
let session: LabSession
let passwordFile: string
beforeAll(async () => {
  session = await openLabSession()
  passwordFile = join(session.directory, 'other-password')
  await writeFile(passwordFile, 'another secret\n', { mode: 0o600 })
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const backUp = async (vm: string, ...flags: readonly string[]): Promise<Json> =>
  (await session.json(['backup', vm, '--quiesce', 'none', ...flags])).vms[0]
const results = (copied: Json): string[] => copied.points.map(({ result }: Json) => result)

describePeer('restic', 'vcb copy', (program) => {
  const second = (): string => join(session.directory, 'second')
  const to = (): string[] => ['--to', second(), '--to-password-file', passwordFile]
  const asSecond = (): Record<string, string> => ({ VCB_REPO: second(), VCB_REPO_PASSWORD_FILE: passwordFile })
  const restic = async (repository: string, password: string, ...argv: readonly string[]): Promise<Buffer> => {
    const env = { ...process.env, RESTIC_REPOSITORY: repository, RESTIC_PASSWORD: password }
    const { stdout } = await promisify(execFile)(program, ['--no-cache', ...argv], { env, maxBuffer: 256 * MIB, encoding: 'buffer' })
    return stdout
  }
  /** SHA-256 of every image in a point, as stock restic gives it back. */
  const images = async (repository: string, password: string, id: string): Promise<Record<string, string>> => {
    const listed = (await restic(repository, password, 'ls', '--json', id)).toString().split('\n')
    const paths = listed.filter((line) => line.includes('-flat.vmdk"')).map((line) => (JSON.parse(line) as { path: string }).path)
    const found: Record<string, string> = {}
    for (const path of paths)
      found[path] = createHash('sha256')
        .update(await restic(repository, password, 'dump', id, path))
        .digest('hex')
    return found
  }
  const points: string[] = []

  it('says what it would copy, and that the other repository has to be there', async () => {
    for (let night = 0; night < 3; night++) {
      if (night > 0) await session.lab.control.write('web01', { percent: 2, seed: night })
      points.push((await backUp('web01')).point)
    }
    const missing = await session.vcb('copy', ...to())
    expect([missing.exit, missing.err]).toEqual([5, expect.stringContaining('There is no restic repository')])
    expect((await session.vcbWith(asSecond(), 'init')).exit).toBe(0)
    const planned = await session.json(['copy', ...to(), '--dry-run'])
    expect([planned.dryRun, results(planned)]).toEqual([true, ['would copy', 'would copy', 'would copy']])
    expect((await session.vcbWith(asSecond(), 'points', '--json')).json().points).toEqual([])
  })

  it('makes copies that stock restic finds sound and equal, with the run and the time of their points', async () => {
    const copied = await session.json(['copy', ...to()])
    expect(results(copied)).toEqual(['copied', 'copied', 'copied'])
    await restic(second(), 'another secret', 'check', '--read-data')
    const there = (await session.vcbWith(asSecond(), 'points', '--json')).json().points as Json[]
    const here = (await session.json(['points'])).points as Json[]
    const facts = ({ run, time, mode, vmName, consistency }: Json): Json => ({ run, time, mode, vmName, consistency })
    expect(there.map(facts)).toEqual(here.map(facts))
    for (const { point, copy } of copied.points) {
      const wanted = await images(session.repository, session.repositoryPassword, point)
      expect(Object.keys(wanted).length).toBeGreaterThan(0)
      expect(await images(second(), 'another secret', copy)).toEqual(wanted)
    }
    expect((await session.vcbWith(asSecond(), 'check', '--json')).json().problems).toEqual([])
    await session.expectClean()
  })

  it('copies what is new alone', async () => {
    expect(results(await session.json(['copy', ...to()]))).toEqual(['there', 'there', 'there'])
    await session.lab.control.write('web01', { areas: [{ offset: 3 * MIB, length: 4096 }] })
    const made = await backUp('web01')
    points.push(made.point)
    const copied = await session.json(['copy', ...to()])
    expect(results(copied)).toEqual(['there', 'there', 'there', 'copied'])
    expect(await images(second(), 'another secret', copied.points[3].copy)).toEqual(
      await images(session.repository, session.repositoryPassword, made.point),
    )
    // A backup may go on in the copy where it stopped in the first repository.
    const next = (await session.vcbWith(asSecond(), 'backup', 'web01', '--quiesce', 'none', '--json')).json().vms[0]
    expect(next.disks.every(({ mode }: Json) => mode === 'incremental')).toBe(true)
  })

  it('takes named points, those of a VM, and repositories of another kind', async () => {
    await backUp('win01')
    const directory = `dir:${join(session.directory, 'export')}`
    const one = await session.json(['copy', 'web01@latest', '--to', directory, '--init'])
    expect(results(one)).toEqual(['copied'])
    expect((await session.vcbWith({ VCB_REPO: directory }, 'check', '--json')).json().problems).toEqual([])
    const restored = join(session.directory, 'restored')
    await session.vcbWith({ VCB_REPO: directory }, 'restore', 'web01@latest', '--to-dir', restored)
    const flat = (await readdir(restored)).filter((name) => name.endsWith('-flat.vmdk'))
    const digests = await Promise.all(
      flat.map(async (name) =>
        createHash('sha256')
          .update(await readFile(join(restored, name)))
          .digest('hex'),
      ),
    )
    const wanted = Object.values(await images(session.repository, session.repositoryPassword, points.at(-1) ?? ''))
    expect(digests.toSorted()).toEqual(wanted.toSorted())
    expect(results(await session.json(['copy', '--vm', 'win01', ...to()]))).toEqual(['copied'])
    const same = await session.vcb('copy', '--to', session.repository)
    expect([same.exit, same.err]).toEqual([2, expect.stringContaining('cannot be copied into itself')])
    const secret = await session.vcb('copy', '--to', second())
    expect([secret.exit, secret.err]).toEqual([2, expect.stringContaining('--to-password-file')])
    await session.expectClean()
  })

  it('tells which point is damaged, copies the others, and leaves no half of it', async () => {
    await session.lab.control.write('win01', { percent: 5, seed: 9 })
    const bad = await backUp('win01')
    const packs = join(session.repository, 'data')
    const files = await Promise.all(
      (await readdir(packs, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map(async (entry) => {
          const path = join(entry.parentPath, entry.name)
          const { mtimeMs, size } = await stat(path)
          return { path, mtimeMs, size }
        }),
    )
    // The data of this backup alone; its lists are in a small pack of their own.
    const newest = Math.max(...files.map(({ mtimeMs }) => mtimeMs))
    for (const { path } of files.filter(({ mtimeMs, size }) => mtimeMs > newest - 1000 && size > 200_000)) {
      await chmod(path, 0o600)
      const bytes = await readFile(path)
      bytes.fill(0x5a, 0, Math.floor(bytes.length / 2))
      await writeFile(path, bytes)
    }
    const copied = await session.json(['copy', ...to()], 12)
    const failed = copied.points.filter(({ result }: Json) => result === 'failed')
    expect(failed).toMatchObject([{ point: bad.point, error: { code: 'INTEGRITY' } }])
    await restic(second(), 'another secret', 'check', '--read-data')
    const there = (await session.vcbWith(asSecond(), 'points', 'win01', '--json')).json().points as Json[]
    expect(there.map(({ run }) => run)).not.toContain(bad.run)
    await session.expectClean()
  })
})
