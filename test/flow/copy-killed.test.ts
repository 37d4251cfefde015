import { randomBytes } from 'node:crypto'
import { cp, readdir, rm, writeFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider } from '../../src/provider/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { diskRef, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { FROM_SOURCES, recordEffects, runChild, runInside } from '../crash/commands.ts'
import { fastDirectory } from '../fast-directory.ts'

/* "vcb copy" on repositories made here, without a lab: killed at a sample of its effects: nothing half is listed, recovery leaves nothing, and running it again ends what was begun. */
const PASSWORD = 'correct horse'
const NIGHTS = 2

async function makeRepositories(scheme: 'restic' | 'dir', directory: string): Promise<void> {
  const identity = { hostname: hostname(), username: userInfo().username, pid: process.pid }
  const deps = { clock: systemClock, log: silentLog, random: randomBytes, ...identity, init: true }
  const cheap = { ...deps, password: new Secret(PASSWORD), kdf: { N: 1024, r: 8, p: 1 } }
  await using provider = await openResticProvider(join(directory, 'repo'), cheap)
  for (let night = 0; night < NIGHTS; night++) {
    await writePoint(provider, [{ disk: diskRef(2000, MIB), source: new WatchedDisk(noise(MIB, night)) }])
  }
  await using _other =
    scheme === 'restic'
      ? await openResticProvider(join(directory, 'second'), cheap)
      : await openProvider(`dir:${join(directory, 'second')}`, deps)
}

const environmentOf = (directory: string): Record<string, string> => ({
  VCB_REPO: join(directory, 'repo'),
  VCB_REPO_PASSWORD: PASSWORD,
  VCB_CONFIG: join(directory, 'vcb.yaml'),
  VCB_STATE_DIR: join(directory, 'state'),
  VCB_LOG_LEVEL: 'error',
  VCB_LOG_FILE: join(directory, 'vcb.log'),
})

test.each<'restic' | 'dir'>(['restic', 'dir'])(
  'a killed "vcb copy" into %s leaves whole points alone, and goes on when it is run again',
  async (scheme) => {
    const root = await fastDirectory('vcb-copy-')
    try {
      const template = join(root, 'template')
      await makeRepositories(scheme, template)
      await writeFile(join(template, 'password'), PASSWORD, { mode: 0o600 })
      await writeFile(join(template, 'vcb.yaml'), `repositories:\n  second:\n    url: ${scheme}:second\n    passwordFile: password\n`)
      expect((await runInside(['recover'], environmentOf(template))).exit).toBe(0)
      const argv = ['copy', '--to', 'second', '--json']
      const fresh = async (name: string): Promise<string> => {
        const directory = join(root, name)
        await cp(template, directory, { recursive: true })
        return directory
      }
      const { effects, ended } = await recordEffects(FROM_SOURCES, argv, environmentOf(await fresh('recorded')), join(root, 'effects'))
      expect(ended.exit, ended.err + ended.out).toBe(0)
      expect(effects.length).toBeGreaterThan(8)
      // One cut of each kind of effect, the last time it happens: in the second point, where it can.
      const places = [...new Set(effects)].map((name) => effects.lastIndexOf(name) + 1)
      let killed = 0
      for (const n of places) {
        const what = `${scheme} killed before effect ${n}, ${effects[n - 1]}`
        const directory = await fresh(`cut-${n}`)
        const environment = environmentOf(directory)
        const there = { ...environment, VCB_REPO: `${scheme}:${join(directory, 'second')}` }
        const child = await runChild(FROM_SOURCES, argv, environment, { kill: { phase: 'before', n } })
        // It may have had fewer effects this time: packs are put together as their blocks come.
        if (child.killed) killed++
        else expect(child.exit, `${what}: ${child.err}`).toBe(0)
        const recovered = await runInside(['recover', '--json'], environment)
        expect(recovered.exit, `${what}: ${recovered.out}`).toBe(0)
        for (const repository of ['repo', 'second']) {
          const names = await readdir(join(directory, repository), { recursive: true })
          expect(
            names.filter((name) => /(^|\/)\./.test(name) || /^locks\/./.test(name) || name.includes('tmp')),
            `${what}: ${repository}`,
          ).toEqual([])
        }
        expect(JSON.parse((await runInside(['check', '--json'], there)).out), what).toMatchObject({ problems: [] })
        const again = await runInside(argv, environment)
        expect(again.exit, `${what}: ${again.out}`).toBe(0)
        const listed = (JSON.parse((await runInside(['points', '--json'], there)).out) as { points: unknown[] }).points
        expect(listed, what).toHaveLength(NIGHTS)
        await rm(directory, { recursive: true, force: true })
      }
      expect(killed).toBeGreaterThan(places.length - 3)
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  },
  600_000,
)

test('of a point whose predecessor is there, only blocks that differ are read', async () => {
  const root = await fastDirectory('vcb-copy-')
  try {
    const identity = { hostname: hostname(), username: userInfo().username, pid: process.pid }
    const deps = { clock: systemClock, log: silentLog, random: randomBytes, ...identity, init: true }
    const cheap = { ...deps, password: new Secret(PASSWORD), kdf: { N: 1024, r: 8, p: 1 } }
    const bytes = noise(4 * MIB, 'disk')
    {
      await using first = await openResticProvider(join(root, 'repo'), cheap)
      await writePoint(first, [{ disk: diskRef(2000, 4 * MIB), source: new WatchedDisk(Buffer.from(bytes)) }])
      bytes.fill(7, 100_000, 100_100)
      bytes.fill(7, 3 * MIB - 50, 3 * MIB + 50)
      await writePoint(first, [{ disk: diskRef(2000, 4 * MIB), source: new WatchedDisk(bytes) }])
      await using _second = await openResticProvider(join(root, 'second'), cheap)
    }
    await writeFile(join(root, 'password'), PASSWORD, { mode: 0o600 })
    await writeFile(join(root, 'vcb.yaml'), 'repositories:\n  second:\n    url: second\n    passwordFile: password\n')
    const { exit, out } = await runInside(['copy', '--to', 'second', '--json'], environmentOf(root))
    expect(exit, out).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ points: [{ readBytes: 4 * MIB }, { result: 'copied', readBytes: 3 * 256 * 1024 }] })
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})
