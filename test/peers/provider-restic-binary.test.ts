import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, type PointId, type RunId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider, removePartials } from '../../src/provider/index.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { collect, diskRef, expectPoint, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { cheapenKey } from '../cheap-key.ts'
import { describePeer } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
const TOP = join(import.meta.dirname, '..', '..')
const SIZE = 8 * MIB
const DEAD = 'web01.20261126T000000Z.dead000000'

type Listed = { readonly id: string; readonly paths: readonly string[]; readonly tags: readonly string[] }

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-restic-')
  await writeFile(join(directory, 'password'), 'secret\n')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describePeer('restic', 'restic-binary: a restic repository through the stock restic', (program) => {
  const environment = (): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    RESTIC_PASSWORD_FILE: join(directory, 'password'),
    RESTIC_CACHE_DIR: join(directory, 'cache'),
    VCB_REPO_PASSWORD: 'hush',
  })
  const restic = async (...argv: string[]): Promise<Buffer> => {
    const env = { ...environment(), RESTIC_REPOSITORY: join(directory, 'repo') }
    return (await run(program, argv, { env, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
  }
  const init = async (): Promise<void> => {
    await restic('init')
    await cheapenKey(join(directory, 'repo'), 'secret')
  }
  const listed = async (): Promise<readonly Listed[]> => (JSON.parse(String(await restic('snapshots', '--json'))) ?? []) as Listed[]
  const locks = async (): Promise<string> => String(await restic('list', 'locks', '--no-lock')).trim()
  const deps = () => ({ clock: systemClock, log: silentLog, environment: environment() })
  const open = (more: { password?: Secret } = {}) =>
    openProvider(`restic-binary:${join(directory, 'repo')}`, {
      ...deps(),
      ...more,
      random: () => new Uint8Array(8),
      hostname: 'proxy',
      username: 'vcb',
      pid: process.pid,
    })
  const points = async (): Promise<readonly string[]> => {
    await using provider = await open()
    if (provider.points === undefined) throw new Error('no points')
    return (await collect(provider.points.list())).map(({ id }) => id)
  }

  it('keeps points that restic itself gives back, and nothing of a source that failed', async () => {
    await expect(open()).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await init()
    await using provider = await open()
    expect(provider).toMatchObject({ name: 'restic-binary', about: expect.stringMatching(/^restic \d/) })
    for (const share of [0.5, 0.99]) {
      const source = new WatchedDisk(noise(SIZE, 1))
      source.failAt = Math.floor(SIZE * share)
      await expect(writePoint(provider, [{ disk: diskRef(2000, SIZE), source }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      expect(await listed()).toEqual([])
    }
    expect(await locks()).toBe('')
    const source = new WatchedDisk(noise(SIZE, 1))
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, SIZE), source }])
    const [archive, skeleton, ...more] = await listed()
    expect(more).toEqual([])
    expect([archive?.paths, skeleton?.paths]).toEqual([['/vcb/web01.tar'], ['/vcb/web01.skeleton']])
    expect(archive?.tags).toEqual(['vcb-archive', `point=${id}`])
    expect(skeleton?.tags).toContain('consistency=crash')
    // As restic gives it back, with nothing of ours but the archive.
    await writeFile(join(directory, 'back.tar'), await restic('dump', archive?.id ?? '', '/vcb/web01.tar'))
    await using back = await openTarProvider(join(directory, 'back.tar'), { log: silentLog })
    await expectPoint(back, 'back' as PointId, new Map([[2000, source.bytes]]))
    await restic('forget', skeleton?.id ?? '')
    expect(await points()).toEqual([])
  }, 180_000)

  it('refuses the wrong password', async () => {
    await init()
    const { RESTIC_PASSWORD_FILE: _file, ...without } = environment()
    const wrong = openProvider(`restic-binary:${join(directory, 'repo')}`, {
      ...deps(),
      environment: without,
      password: new Secret('wrong'),
      random: () => new Uint8Array(8),
      hostname: 'proxy',
      username: 'vcb',
      pid: process.pid,
    })
    await expect(wrong).rejects.toMatchObject({ code: 'AUTH' })
  })

  it('shows no snapshot when we are killed with -9, and recovery removes what is there by the run', async () => {
    await init()
    const at = (path: string): string => JSON.stringify(pathToFileURL(join(TOP, 'src', path)).href)
    const text = `
      import { openResticBinary } from ${at('provider/restic-binary-product.ts')}
      import { silentLog, systemClock } from ${at('core/index.ts')}
      import { randomBytes } from 'node:crypto'
      const D = process.env.D
      const restic = await openResticBinary(D + '/repo', { clock: systemClock, log: silentLog, environment: process.env })
      const output = await restic.begin('${DEAD}', { config: { vm: { name: 'web01' } } }, D + '/point.skeleton')
      for (let left = ${SIZE}; left > 0; left -= 65536) await output.write(randomBytes(65536))
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', text], {
      env: { ...environment(), D: directory },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const [, signal] = await once(child, 'exit')
    expect(signal).toBe('SIGKILL')
    // Told by INT, it dies of its own farewell, which nobody reads; its lock is a dead process's as soon as it has ended.
    const unlocked = async (): Promise<string> => {
      await restic('unlock')
      return locks()
    }
    await expect.poll(unlocked, { timeout: 60_000, interval: 300 }).toBe('')
    expect(await listed()).toEqual([])
    // The end of the stream reached restic all the same: a machine that dies in the right moment. It is no point, and says so.
    await writeFile(join(directory, 'half'), noise(MIB, 1))
    for (const run of ['dead000000', 'live000000']) {
      await restic('backup', '--tag', `vcb-archive,point=web01.20261126T000000Z.${run}`, join(directory, 'half'))
    }
    expect(await points()).toEqual([])
    const places = { url: `restic-binary:${join(directory, 'repo')}`, run: 'dead000000' as RunId, temporary: directory }
    expect(await removePartials(places, { product: deps() })).toHaveLength(1)
    expect(await removePartials(places, { product: deps() })).toEqual([])
    expect((await listed()).map(({ tags }) => tags[1])).toEqual(['point=web01.20261126T000000Z.live000000'])
    await rm(join(directory, 'repo'), { recursive: true })
    expect(await removePartials(places, { product: deps() })).toEqual([])
  }, 180_000)
})
