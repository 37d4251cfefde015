import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, silentLog, systemClock } from '../../src/core/index.ts'
import { openCommandProvider } from '../../src/provider/command-provider.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { diskRef, expectPoint, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { cheapenKey } from '../cheap-key.ts'
import { describePeer } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
const TOP = join(import.meta.dirname, '..', '..')
const SIZE = 8 * MIB

type Product = {
  readonly environment: (directory: string) => NodeJS.ProcessEnv
  readonly init: readonly string[]
  /** What the script runs. */
  readonly store: string
  /** Names of what the product holds as good backups. */
  readonly list: (call: (...argv: string[]) => Promise<Buffer>) => Promise<readonly string[]>
  readonly bringBack: (name: string) => readonly string[]
}

const PRODUCTS: Readonly<Record<'restic' | 'borg', Product>> = {
  restic: {
    environment: (directory) => ({
      RESTIC_REPOSITORY: join(directory, 'repo'),
      RESTIC_PASSWORD_FILE: join(directory, 'password'),
      RESTIC_CACHE_DIR: join(directory, 'cache'),
    }),
    init: ['init'],
    store: 'restic backup --stdin --stdin-filename "$VCB_POINT.tar" --host "$VCB_VM"',
    list: async (call) =>
      (JSON.parse(String(await call('snapshots', '--json', '--no-lock'))) as { paths: string[] }[]).map(({ paths }) => paths[0] ?? ''),
    bringBack: (name) => ['dump', '--no-lock', 'latest', name],
  },
  borg: {
    environment: (directory) => ({
      BORG_REPO: join(directory, 'repo'),
      BORG_PASSCOMMAND: `cat ${join(directory, 'password')}`,
      BORG_BASE_DIR: directory,
      BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
    }),
    init: ['init', '--encryption=repokey'],
    store: 'borg create "::$VCB_POINT" -',
    // borg lists checkpoints only when it is asked for them.
    list: async (call) =>
      String(await call('list', '--bypass-lock', '--short'))
        .split('\n')
        .filter((line) => line !== ''),
    bringBack: (name) => ['extract', '--stdout', `::${name}`],
  },
}

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-stream-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

for (const name of ['restic', 'borg'] as const) {
  describePeer(name, `command: with the stock ${name}`, (program) => {
    const { environment: of, init, store, list, bringBack } = PRODUCTS[name]
    const setUp = async () => {
      const environment = { PATH: process.env['PATH'], HOME: directory, D: directory, ...of(directory) }
      const call = async (...argv: string[]): Promise<Buffer> =>
        (await run(program, argv, { env: environment, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
      await writeFile(join(directory, 'password'), 'secret\n')
      await call(...init)
      if (name === 'restic') await cheapenKey(join(directory, 'repo'), 'secret')
      const script = join(directory, 'store')
      await writeFile(script, `#!/bin/sh\necho $$ > "$D/pid"\nexec ${store}\n`)
      await chmod(script, 0o755)
      return { environment, call, script, provider: openCommandProvider(script, environment, { clock: systemClock, log: silentLog }) }
    }

    it('keeps a whole point, and none whose source failed', async () => {
      const { call, provider } = await setUp()
      for (const share of [0, 0.5, 0.99]) {
        const source = new WatchedDisk(noise(SIZE, 1))
        source.failAt = Math.floor(SIZE * share)
        await expect(writePoint(provider, [{ disk: diskRef(2000, SIZE), source }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      }
      expect(await list(call)).toEqual([])
      const good = new WatchedDisk(noise(SIZE, 1))
      const { id } = await writePoint(provider, [{ disk: diskRef(2000, SIZE), source: good }])
      const stored = await list(call)
      expect(stored).toEqual([expect.stringContaining(id)])
      await writeFile(join(directory, 'back.tar'), await call(...bringBack(stored[0] ?? '')))
      await using back = await openTarProvider(join(directory, 'back.tar'), { log: silentLog })
      await expectPoint(back, 'back' as never, new Map([[2000, good.bytes]]))
    })

    it('keeps nothing when we are killed with -9', async () => {
      const { environment, call, script } = await setUp()
      const at = (path: string): string => JSON.stringify(pathToFileURL(join(TOP, 'src', path)).href)
      const text = `
        import { commandOutput } from ${at('provider/command-output.ts')}
        import { silentLog, systemClock } from ${at('core/index.ts')}
        import { randomBytes } from 'node:crypto'
        const output = await commandOutput([${JSON.stringify(script)}], process.env, { clock: systemClock, log: silentLog })
        for (let left = ${SIZE}; left > 0; left -= 65536) await output.write(randomBytes(65536))
        process.kill(process.pid, 'SIGKILL')`
      const child = spawn(process.execPath, ['--input-type=module', '--eval', text], {
        env: { ...environment, VCB_POINT: 'torn', VCB_VM: 'web01' },
        stdio: ['ignore', 'ignore', 'inherit'],
      })
      const [, signal] = await once(child, 'exit')
      expect(signal).toBe('SIGKILL')
      const pid = (await readFile(join(directory, 'pid'), 'utf8')).trim()
      const state = () =>
        run('ps', ['-o', 'stat=', '-p', pid]).then(
          ({ stdout }) => stdout.trim().slice(0, 1),
          () => 'gone',
        )
      await expect.poll(state, { timeout: 10_000 }).toMatch(/^(?:Z|gone)$/)
      expect(await list(call)).toEqual([])
    })
  })
}
