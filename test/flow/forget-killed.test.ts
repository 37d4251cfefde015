import { randomBytes } from 'node:crypto'
import { cp, readdir, rm, writeFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { MIB, type PointId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { diskRef, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { FROM_SOURCES, recordEffects, runChild, runInside } from '../crash/commands.ts'
import { fastDirectory } from '../fast-directory.ts'

/* "vcb forget" killed at a sample of its effects: each point is whole or gone, recovery leaves nothing, and running it again ends what was begun. */
type Scheme = 'restic' | 'tar' | 'dir'
const PASSWORD = 'correct horse'
const DOOMED = 2

async function makeRepository(scheme: Scheme, directory: string): Promise<readonly PointId[]> {
  const identity = { hostname: hostname(), username: userInfo().username, pid: process.pid }
  const deps = { clock: systemClock, log: silentLog, random: randomBytes, ...identity, init: true }
  const path = join(directory, 'repo')
  await using provider =
    scheme === 'restic'
      ? await openResticProvider(path, { ...deps, password: new Secret(PASSWORD), kdf: { N: 1024, r: 8, p: 1 } })
      : await openProvider(`${scheme}:${path}`, deps)
  const points: PointId[] = []
  for (let night = 0; night <= DOOMED; night++) {
    const disk = diskRef(2000, MIB)
    points.push((await writePoint(provider, [{ disk, source: new WatchedDisk(noise(MIB, night)) }])).id)
  }
  return points
}

const environmentOf = (scheme: Scheme, directory: string): Record<string, string> => ({
  VCB_REPO: scheme === 'restic' ? join(directory, 'repo') : `${scheme}:${join(directory, 'repo')}`,
  VCB_REPO_PASSWORD: PASSWORD,
  VCB_STATE_DIR: join(directory, 'state'),
  VCB_LOG_LEVEL: 'error',
  VCB_LOG_FILE: join(directory, 'vcb.log'),
})

test.each<Scheme>(['restic', 'dir', 'tar'])(
  'a killed "vcb forget" on %s leaves each point whole or gone',
  async (scheme) => {
    const root = await fastDirectory('vcb-forget-')
    try {
      const template = join(root, 'template')
      const points = await makeRepository(scheme, template)
      const last = points.at(-1)
      // The state database is there, as on every proxy but a new one.
      expect((await runInside(['recover'], environmentOf(scheme, template))).exit).toBe(0)
      const argv = ['forget', 'web01', '--keep-last', '1', '--json']
      const fresh = async (name: string): Promise<string> => {
        const directory = join(root, name)
        await cp(template, directory, { recursive: true })
        return directory
      }
      const recorded = await fresh('recorded')
      const { effects, ended } = await recordEffects(FROM_SOURCES, argv, environmentOf(scheme, recorded), join(root, 'effects'))
      expect(ended.exit, ended.err).toBe(0)
      expect(effects.length).toBeGreaterThan(8)

      // One cut of each kind of effect here, the second time it happens where it does; the crash matrix has all of them.
      const places = [...new Set(effects)].map(
        (name) => Math.max(effects.indexOf(name), effects.indexOf(name, effects.indexOf(name) + 1)) + 1,
      )
      for (const n of places) {
        const what = `${scheme} killed before effect ${n}, ${effects[n - 1]}`
        const directory = await fresh(`cut-${n}`)
        const environment = environmentOf(scheme, directory)
        const run = (...command: readonly string[]) => runInside([...command, '--json'], environment)
        const child = await runChild(FROM_SOURCES, argv, environment, { kill: { phase: 'before', n } })
        expect(child.killed, what).toBe(true)
        const recovered = await run('recover')
        expect(recovered.exit, `${what}: ${recovered.out}`).toBe(0)
        const names = await readdir(join(directory, 'repo'), { recursive: true })
        expect(
          names.filter((name) => /(^|\/)\./.test(name) || /^locks\/./.test(name) || name.includes('tmp')),
          what,
        ).toEqual([])
        const listed = (JSON.parse((await run('points')).out) as { points: { id: string }[] }).points.map(({ id }) => id)
        expect(listed, what).toContain(last)
        expect(
          listed.every((id) => points.includes(id as PointId)),
          what,
        ).toBe(true)
        expect(JSON.parse((await run('check')).out), what).toMatchObject({ problems: [] })
        const again = await runInside(argv, environment)
        expect(again.exit, `${what}: ${again.out}`).toBe(0)
        expect((JSON.parse((await run('points')).out) as { points: { id: string }[] }).points.map(({ id }) => id)).toEqual([last])
        await rm(directory, { recursive: true, force: true })
      }
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  },
  600_000,
)

test('the hidden rest of a directory export is removed by recovery, whatever process left it', async () => {
  const root = await fastDirectory('vcb-forget-')
  try {
    const [first = ''] = await makeRepository('dir', root)
    const environment = environmentOf('dir', root)
    const argv = ['forget', first, '--json']
    const { effects } = await recordEffects(FROM_SOURCES, argv, environment, join(root, 'effects'))
    await rm(root, { recursive: true, force: true })
    const [point = ''] = await makeRepository('dir', root)
    await runInside(['recover'], environment)
    const half = effects.indexOf('file rename') + 2
    const child = await runChild(FROM_SOURCES, ['forget', point, '--json'], environment, { kill: { phase: 'before', n: half } })
    expect(child.killed).toBe(true)
    expect(await readdir(join(root, 'repo'))).toContain(`.${point}.deleted`)
    await writeFile(join(root, 'repo', '.a-stranger.deleted'), 'not ours')
    expect((await runInside(['recover'], environment)).exit).toBe(0)
    expect((await readdir(join(root, 'repo'))).filter((name) => name.startsWith('.'))).toEqual(['.a-stranger.deleted'])
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})
