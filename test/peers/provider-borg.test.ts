import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, type PointId, type RunId, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider, removePartials } from '../../src/provider/index.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { collect, diskRef, expectPoint, noise, patterned, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { describePeer } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
const TOP = join(import.meta.dirname, '..', '..')
const SIZE = 8 * MIB

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-borg-')
  await writeFile(join(directory, 'password'), 'secret\n')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describePeer('borg', 'borg: a Borg repository through the stock borg', (program) => {
  const environment = (): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    BORG_BASE_DIR: directory,
    BORG_PASSCOMMAND: `cat ${join(directory, 'password')}`,
    VCB_REPO_PASSWORD: 'hush',
  })
  const borg = async (...argv: string[]): Promise<Buffer> => {
    const env = { ...environment(), BORG_REPO: join(directory, 'repo') }
    return (await run(program, argv, { env, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
  }
  const listed = async (...more: string[]): Promise<string[]> =>
    String(await borg('list', '--short', ...more))
      .split('\n')
      .filter((name) => name !== '')
  const deps = () => ({ clock: systemClock, log: silentLog, environment: environment() })
  const open = (more: { password?: Secret } = {}) =>
    openProvider(`borg:${join(directory, 'repo')}`, {
      ...deps(),
      ...more,
      random: () => new Uint8Array(8),
      hostname: 'proxy',
      username: 'vcb',
      pid: process.pid,
    })

  it('keeps points that borg itself gives back, disks in any order, and nothing of a source that failed', async () => {
    await expect(open()).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await borg('init', '--encryption=repokey')
    await using provider = await open()
    expect(provider).toMatchObject({ name: 'borg', about: expect.stringMatching(/^borg 1\./), url: `borg:${join(directory, 'repo')}` })
    await expect(open({ password: new Secret('wrong') })).rejects.toMatchObject({ code: 'AUTH' })
    await using _given = await open({ password: new Secret('secret') })

    for (const share of [0.5, 0.99]) {
      const source = new WatchedDisk(noise(SIZE, 1))
      source.failAt = Math.floor(SIZE * share)
      await expect(writePoint(provider, [{ disk: diskRef(2000, SIZE), source }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      expect(await listed('--consider-checkpoints')).toEqual([])
    }

    const first = new WatchedDisk(patterned(SIZE, [{ offset: MIB, length: 5 * MIB }], 'first'))
    const second = new WatchedDisk(noise(SIZE, 'second'))
    const disks = [
      { disk: diskRef(2000, SIZE), source: first },
      { disk: diskRef(2001, SIZE), source: second },
    ]
    const { id } = await writePoint(provider, disks)
    expect(await listed('--consider-checkpoints')).toEqual([id])
    // As borg gives it back, with nothing of ours but the archive.
    await writeFile(join(directory, 'back.tar'), await borg('extract', '--stdout', `::${id}`, 'point.tar'))
    await using back = await openTarProvider(join(directory, 'back.tar'), { log: silentLog })
    await expectPoint(
      back,
      'back' as PointId,
      new Map([
        [2000, first.bytes],
        [2001, second.bytes],
      ]),
    )

    // Both at the same time, the last disk first, and a place before the one just read.
    if (provider.points === undefined) throw new Error('no points')
    await using reader = await provider.points.open(id)
    await using late = await reader.disk(2001)
    await using early = await reader.disk(2000)
    const piece = Buffer.alloc(4096)
    for (const [disk, bytes, offset] of [
      [late, second.bytes, 7 * MIB],
      [early, first.bytes, 5 * MIB],
      [late, second.bytes, 100],
      [early, first.bytes, 3],
    ] as const) {
      await disk.read(offset, piece)
      expect(piece.equals(bytes.subarray(offset, offset + piece.length))).toBe(true)
    }
    expect(provider.points.onlyForwards).toContain('as a stream')
  }, 180_000)

  it('shows no archive when we are killed with -9, and recovery removes what is there by the run', async () => {
    await borg('init', '--encryption=repokey')
    const at = (path: string): string => JSON.stringify(pathToFileURL(join(TOP, 'src', path)).href)
    const text = `
      import { openBorg } from ${at('provider/borg-product.ts')}
      import { silentLog, systemClock } from ${at('core/index.ts')}
      import { randomBytes } from 'node:crypto'
      import { writeFileSync } from 'node:fs'
      const D = process.env.D
      const borg = await openBorg(D + '/repo', { clock: systemClock, log: silentLog, environment: process.env })
      writeFileSync(D + '/point.skeleton', 'x')
      const output = await borg.begin('web01.20261126T000000Z.dead000000', {}, D + '/point.skeleton')
      for (let left = ${SIZE}; left > 0; left -= 65536) await output.write(randomBytes(65536))
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', text], {
      env: { ...environment(), D: directory },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const [, signal] = await once(child, 'exit')
    expect(signal).toBe('SIGKILL')
    // Waits for the lock, which goes when borg was ended (or is seen to be dead).
    await borg('with-lock', '--lock-wait', '30', join(directory, 'repo'), 'true')
    expect(await listed()).toEqual([])
    // The end of the stream reached borg all the same: a machine that dies in the right moment. Its name says what it is.
    await writeFile(join(directory, 'half'), noise(MIB, 1))
    for (const who of ['dead000000', 'live000000']) {
      await borg('create', `::web01.20261126T000000Z.${who}.incomplete`, join(directory, 'half'))
    }
    await borg('create', '::web01.20261126T000000Z.dead000000', join(directory, 'half'))
    await using provider = await open()
    expect(await collect(provider.points?.list() ?? (async function* () {})())).toEqual([])
    const places = { url: provider.url, run: 'dead000000' as RunId, temporary: directory }
    expect(await removePartials(places, { product: deps() })).toHaveLength(1)
    expect(await removePartials(places, { product: deps() })).toEqual([])
    expect(await listed()).toEqual(['web01.20261126T000000Z.live000000.incomplete', 'web01.20261126T000000Z.dead000000'])
    await rm(join(directory, 'repo'), { recursive: true })
    expect(await removePartials(places, { product: deps() })).toEqual([])
    expect((await readdir(tmpdir())).filter((name) => name.includes('dead000000'))).toEqual([])
  }, 180_000)
})
