import { execFile } from 'node:child_process'
import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { rm } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Clock, Secret, systemClock } from '../../src/core/index.ts'
import { initRepository, type RepositoryPlace } from '../../src/restic/index.ts'
import { type HttpFault, startHttpFaults } from '../http-faults.ts'
import { hurriedClock } from '../hurried-clock.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { backupImage, deps, FAST_KDF, PASSWORD, readBack, testImage } from '../peers/restic-fixture.ts'
import { restPlace } from '../rest-place.ts'
import { type RestServer, startRestServer } from '../rest-server.ts'
import { resticSftpOption, sftpPlace, sftpSubsystem } from '../sftp-place.ts'
import { startTcpFaults, type TcpFault } from '../tcp-faults.ts'
import { fastDirectory } from '../fast-directory.ts'

/* Whatever the way to a server does, nothing is lost: what was said to be stored is there, whole, and stock restic agrees. */

const run = promisify(execFile)
const MIB = 1024 * 1024

let directory: string
beforeAll(async () => {
  directory = await fastDirectory('vcb-faults-')
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function restic(program: string, repository: string, args: readonly string[]): Promise<Buffer> {
  const env = { PATH: process.env['PATH'], HOME: directory, RESTIC_REPOSITORY: repository, RESTIC_PASSWORD: PASSWORD, TMPDIR: directory }
  return (await run(program, ['--no-cache', ...args], { env, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
}

/** Makes a repository, backs two images up and reads one back, all of it through the faults. */
async function work(place: RepositoryPlace, clock: Clock): Promise<readonly { readonly id: string; readonly image: Buffer }[]> {
  const images = [testImage(6), testImage(6, 3)]
  await using repository = await initRepository(
    place,
    new Secret(PASSWORD),
    { ...deps(), clock },
    { kdf: FAST_KDF, packSize: 4 * MIB, workers: 1 },
  )
  const done = []
  for (const image of images) done.push({ id: await backupImage(repository, image), image })
  for (const { id, image } of done) expect(Buffer.compare(await readBack(repository, id, 'vm', 'disk.img'), image)).toBe(0)
  return done
}

/** Without faults now: stock restic finds everything in order and the same, no lock is left, no file holds something else than its name says. */
async function expectAllThere(
  place: RepositoryPlace,
  stock: (...args: string[]) => Promise<Buffer>,
  done: Awaited<ReturnType<typeof work>>,
): Promise<void> {
  await using direct = place
  expect(await Array.fromAsync(direct.list('lock'))).toEqual([])
  for (const kind of ['data', 'index', 'snapshot', 'key'] as const) {
    for await (const { name, size } of direct.list(kind)) {
      const bytes = await direct.load({ kind, name })
      expect(bytes.length).toBe(size)
      expect(hash('sha256', bytes)).toBe(name)
    }
  }
  expect(await Array.fromAsync(direct.list('snapshot'))).toHaveLength(done.length)
  expect(String(await stock('check', '--read-data'))).toContain('no errors were found')
  for (const { id, image } of done) expect(Buffer.compare(await stock('dump', id, '/vm/disk.img'), image)).toBe(0)
}

describePeers(['sshd', 'ssh', 'restic'], 'over SFTP', (paths) => {
  let sshd: OpenSshd
  beforeAll(async () => {
    sshd = await startSshd(paths.sshd, [sftpSubsystem(), 'MaxStartups 100'])
  })
  afterAll(() => sshd?.[Symbol.asyncDispose]())

  /** Bytes after which one connection after the other ends: in the handshake, in small files, in the middle of packs. */
  const CUTS = [12_000, 30_000, 9_000, 2_000, 100_000, 700_000, 1_500_000, 3_000_000, 5_000_000, 10_000_000]

  it.each<[string, (connection: number) => TcpFault | undefined]>([
    ['connections that are cut again and again', (n) => ({ afterBytes: CUTS[n % CUTS.length] ?? 0, how: 'cut' })],
    ['connections that fall silent', (n) => (n < 1 ? { afterBytes: 800_000, how: 'silence' } : undefined)],
  ])('%s lose nothing', async (title, plan) => {
    await using faults = await startTcpFaults(sshd.port, plan)
    const name = title.replaceAll(' ', '-')
    // Silence is measured.
    const clock = title.includes('silent') ? hurriedClock(20, 20) : hurriedClock(20)
    await using place = sftpPlace(sshd, { name, clock, host: { port: faults.port } })
    const done = await work(place, clock)
    expect(faults.connections).toBeGreaterThanOrEqual(2)
    await place[Symbol.asyncDispose]()
    const stock = (...args: string[]): Promise<Buffer> =>
      restic(paths.restic, `sftp:${sshd.user}@127.0.0.1:${place.path}`, ['-o', resticSftpOption(sshd), ...args])
    await expectAllThere(sftpPlace(sshd, { name }), stock, done)
  })
})

describePeers(['rclone', 'restic'], 'over a REST server', (paths) => {
  let server: RestServer
  beforeAll(async () => {
    server = await startRestServer(paths.rclone)
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  /** The fault for the first time that something is asked; the second time it passes. */
  const first = (fault: HttpFault, only: (request: IncomingMessage) => boolean = () => true) => {
    // All but the very first: a server that was never reached is waited for but shortly.
    let begun = false
    const seen = new Set<string>()
    return (request: IncomingMessage): HttpFault => {
      if (!begun) {
        begun = true
        return 'none'
      }
      const what = `${request.method} ${request.url} ${request.headers.range ?? ''}`
      if (!only(request) || seen.has(what)) return 'none'
      seen.add(what)
      return fault
    }
  }
  /** The same storm each time. */
  const storm = () => {
    let state = 7
    let begun = false
    return (): HttpFault => {
      if (!begun) {
        begun = true
        return 'none'
      }
      // Marsaglia's xorshift.
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      const dice = (state >>> 0) % 10
      return dice < 2
        ? { status: 500 }
        : dice < 3
          ? { status: 503 }
          : dice < 4
            ? { status: 502 }
            : dice < 5
              ? 'cut after it was done'
              : 'none'
    }
  }

  it.each<[string, (request: IncomingMessage) => HttpFault]>([
    ['a cut in every request', first('cut the request')],
    ['a cut after every request was done', first('cut after it was done')],
    ['a cut in every answer', first('cut the answer')],
    ['a throttled server', first({ status: 429, headers: { 'retry-after': '2' } })],
    ['a storm of errors', storm()],
    ['a server that falls silent', first('silence', ({ method, url = '' }) => method === 'POST' && /data|index|snapshots/u.test(url))],
    ['lengths that are wrong', first('half the answer, well-formed', ({ method }) => method === 'HEAD')],
  ])('%s loses nothing', async (title, choose) => {
    await using faults = await startHttpFaults(server.port, choose)
    const name = title.replaceAll(' ', '-')
    // A pause that was asked for is measured.
    const clock = title.includes('throttled') ? hurriedClock(20, 20) : hurriedClock(100)
    await using place = restPlace(faults.origin, { name, clock, silenceMs: title.includes('silent') ? 1000 : undefined })
    const done = await work(place, clock)
    expect(faults.faults).toBeGreaterThan(2)
    const at = `http://127.0.0.1:${server.port}`
    const stock = (...args: string[]): Promise<Buffer> => restic(paths.restic, `rest:${at}/${name}/`, args)
    await expectAllThere(restPlace(at, { name }), stock, done)
  })

  it('a server that is killed again and again loses nothing', async () => {
    const clock = hurriedClock(20)
    await using place = restPlace(`http://127.0.0.1:${server.port}`, { name: 'killed', clock })
    const done = work(place, clock)
    done.catch(() => undefined) // told below
    for (const pause of [300, 500, 700]) {
      await systemClock.sleep(pause)
      await server.restart()
    }
    const at = `http://127.0.0.1:${server.port}`
    await expectAllThere(restPlace(at, { name: 'killed' }), (...args) => restic(paths.restic, `rest:${at}/killed/`, args), await done)
  })

  describe('what cannot be trusted', () => {
    it('half a file is never taken for a whole one', async () => {
      await using faults = await startHttpFaults(server.port, ({ method }) => (method === 'GET' ? 'half the answer, well-formed' : 'none'))
      await using place = restPlace(faults.origin, { name: 'half' })
      await expect(work(place, systemClock)).rejects.toMatchObject({ code: 'INTEGRITY' })
    })
  })
})
