import { execFile } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Clock, Secret, systemClock } from '../../src/core/index.ts'
import { initRepository, openRepository, type Repository, type RepositoryPlace } from '../../src/restic/index.ts'
import { type HttpFault, startHttpFaults } from '../http-faults.ts'
import { hurriedClock } from '../hurried-clock.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { backupImage, deps, FAST_KDF, PASSWORD, readBack, testImage } from '../peers/restic-fixture.ts'
import { restPlace } from '../rest-place.ts'
import { type RestServer, startRestServer } from '../rest-server.ts'
import { type Fault, startFaultProxy } from '../s3-faults.ts'
import { makeBucket, s3Place, stockRestic } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, startS3Server } from '../s3-server.ts'
import { resticSftpOption, sftpPlace, sftpSubsystem } from '../sftp-place.ts'
import { startTcpFaults } from '../tcp-faults.ts'

/* A prune on a server, through a line that breaks: what is kept is there, whole, what is not is gone, and stock restic agrees. */

const run = promisify(execFile)
const MIB = 1024 * 1024
const SETTINGS = { packSize: 4 * MIB, blockSize: 256 * 1024, workers: 1 } as const

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-prunes-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

type Point = { readonly id: string; readonly image: Buffer }
type Stock = (...args: readonly string[]) => Promise<Buffer>

const stockOf =
  (repository: string, options: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Stock =>
  async (...args) => {
    const env = {
      PATH: process.env['PATH'],
      HOME: directory,
      RESTIC_REPOSITORY: repository,
      RESTIC_PASSWORD: PASSWORD,
      TMPDIR: directory,
      ...more,
    }
    return (await run('restic', ['--no-cache', ...options, ...args], { env, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
  }

/** Two points that share blocks; the first one is forgotten. */
async function makePoints(place: RepositoryPlace, clock: Clock = systemClock): Promise<Point> {
  await using repository = await initRepository(place, new Secret(PASSWORD), { ...deps(), clock }, { kdf: FAST_KDF, ...SETTINGS })
  const image = testImage(6)
  const first = await backupImage(repository, image)
  for (let at = 0; at < 6; at += 2) randomBytes(MIB / 2).copy(image, at * MIB)
  const kept = { id: await backupImage(repository, image), image }
  await repository.snapshots.forget([first])
  return kept
}

const open = (place: RepositoryPlace, clock: Clock = systemClock): Promise<Repository> =>
  openRepository(place, new Secret(PASSWORD), { ...deps(), clock }, SETTINGS)

/** Prunes through `place`, then looks without faults. */
async function expectPruned(
  place: RepositoryPlace,
  clock: Clock,
  direct: RepositoryPlace,
  stock: Stock,
  { id, image }: Point,
): Promise<void> {
  await using repository = await open(place, clock)
  const planned = await repository.prune({ mostUnused: { bytes: 0 }, dryRun: true })
  const done = await repository.prune({ mostUnused: { bytes: 0 } })
  expect(done).toEqual(planned)
  expect(done.freedBytes).toBeGreaterThan(MIB)
  await using look = direct
  expect(await Array.fromAsync(look.list('lock'))).toEqual([])
  let bytes = 0
  for await (const { size } of look.list('data')) bytes += size
  expect(Math.abs(done.before.bytes - bytes - done.freedBytes)).toBeLessThan(4096)
  expect(String(await stock('check', '--read-data'))).toContain('no errors were found')
  expect(String(await stock('prune', '--dry-run', '--max-unused', '0'))).toMatch(/total prune:\s+0 blobs/u)
  expect(Buffer.compare(await stock('dump', id, '/vm/disk.img'), image)).toBe(0)
  expect(Buffer.compare(await readBack(repository, id, 'vm', 'disk.img'), image)).toBe(0)
}

describePeers(['sshd', 'ssh', 'restic'], 'a prune over SFTP', (paths) => {
  let sshd: OpenSshd
  beforeAll(async () => {
    sshd = await startSshd(paths.sshd, [sftpSubsystem(), 'MaxStartups 100'])
  })
  afterAll(() => sshd?.[Symbol.asyncDispose]())

  it('ends, however often its connection is cut', async () => {
    await using first = sftpPlace(sshd, { name: 'cut' })
    const kept = await makePoints(first)
    await using faults = await startTcpFaults(sshd.port, (connection) =>
      connection < 8 ? { afterBytes: [15_000, 40_000, 200_000, 1_500_000][connection % 4] ?? 0, how: 'cut' } : undefined,
    )
    const clock = hurriedClock(20)
    await using place = sftpPlace(sshd, { name: 'cut', clock, host: { port: faults.port } })
    const stock = stockOf(`sftp:${sshd.user}@127.0.0.1:${place.path}`, ['-o', resticSftpOption(sshd)])
    await expectPruned(place, clock, sftpPlace(sshd, { name: 'cut' }), stock, kept)
    expect(faults.connections).toBeGreaterThanOrEqual(2)
  })
})

describePeers(['rclone', 'restic'], 'a prune over a REST server', (paths) => {
  let server: RestServer
  beforeAll(async () => {
    server = await startRestServer(paths.rclone)
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  it('ends, when every removal was done and is not answered, and every third request fails', async () => {
    const at = `http://127.0.0.1:${server.port}`
    await using first = restPlace(at, { name: 'cut' })
    const kept = await makePoints(first)
    let requests = 0
    const removed = new Set<string>()
    await using faults = await startHttpFaults(server.port, ({ method, url = '' }): HttpFault => {
      if (method === 'DELETE' && !removed.has(url)) {
        removed.add(url)
        return 'cut after it was done'
      }
      return ++requests % 3 === 0 ? { status: 503 } : 'none'
    })
    const clock = hurriedClock(100)
    await using place = restPlace(faults.origin, { name: 'cut', clock })
    await expectPruned(place, clock, restPlace(at, { name: 'cut' }), stockOf(`rest:${at}/cut/`), kept)
    expect(removed.size).toBeGreaterThan(3)
  })

  it('that is append-only is told before anything is written, and its packs are never tried', async () => {
    await using appending = await startRestServer(paths.rclone, ['--append-only'])
    await using seen = await startHttpFaults(appending.port, () => 'none')
    await using place = restPlace(seen.origin, { name: 'kept' })
    await using repository = await initRepository(place, new Secret(PASSWORD), deps(), { kdf: FAST_KDF, ...SETTINGS })
    const image = testImage(2)
    const id = await backupImage(repository, image)
    // As a backup leaves it that was cut off.
    const bytes = randomBytes(1000)
    await place.save({ kind: 'data', name: hash('sha256', bytes) }, bytes)
    const packs = (await Array.fromAsync(place.list('data'))).length
    expect(await repository.prune({ dryRun: true })).toMatchObject({ unreferenced: { packs: 1, bytes: 1000 } })
    for (let time = 0; time < 2; time++) {
      await expect(repository.prune()).rejects.toMatchObject({
        code: 'CONFIG',
        retry: 'never',
        message: expect.stringContaining('does not let anything be removed, so its space cannot be freed from here'),
      })
    }
    expect(await Array.fromAsync(place.list('data'))).toHaveLength(packs)
    expect(await Array.fromAsync(place.list('lock'))).toEqual([])
    expect(seen.requests.filter((each) => each.startsWith('DELETE') && !each.includes('/locks/')).length).toBeLessThanOrEqual(1)
    expect(Buffer.compare(await readBack(repository, id, 'vm', 'disk.img'), image)).toBe(0)
    const stock = stockOf(`rest:http://127.0.0.1:${appending.port}/kept/`)
    expect(String(await stock('check', '--read-data'))).toContain('no errors were found')
  })
})

describePeers([...S3_SERVER_PEERS, 'restic'], 'a prune of a bucket', (programs) => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
  }, 90_000)
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]()
  })

  it('ends, when the server is busy and answers get lost', async () => {
    const bucket = await makeBucket(server)
    const kept = await makePoints(s3Place(server, bucket))
    let requests = 0
    await using proxy = await startFaultProxy(server.port, ({ method }): Fault => {
      requests++
      if (requests % 5 === 0) return { status: 503, code: 'SlowDown' }
      return method === 'DELETE' && requests % 2 === 0 ? 'cut after it was done' : 'none'
    })
    const clock = hurriedClock(100)
    await using place = s3Place(server, bucket, { endpoint: proxy.endpoint, clock })
    const { url, environment } = stockRestic(server, bucket)
    await expectPruned(place, clock, s3Place(server, bucket), stockOf(url, [], environment), kept)
    expect(proxy.counts.faults).toBeGreaterThan(5)
  })

  it('with Object Lock leaves what is locked, says until when, and frees the rest', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    const { id, image } = await makePoints(s3Place(server, bucket))
    await using locked = s3Place(server, bucket, { objectLock: { mode: 'governance', days: 1 } })
    // As a backup leaves it that was cut off.
    const bytes = randomBytes(1000)
    const stray = hash('sha256', bytes)
    await locked.save({ kind: 'data', name: stray }, bytes)
    await using repository = await open(locked)
    const planned = await repository.prune({ mostUnused: { bytes: 0 }, dryRun: true })
    const done = await repository.prune({ mostUnused: { bytes: 0 } })
    expect(done).toEqual(planned)
    expect(done.freedBytes).toBeGreaterThan(MIB)
    expect(done).toMatchObject({ unusedAfterBytes: 0, unreferenced: { packs: 0 }, kept: { packs: 1, bytes: 1000 } })
    expect(Math.abs(Date.parse(done.kept.until ?? '') - Date.now() - 86_400_000)).toBeLessThan(120_000)
    expect(await locked.stat({ kind: 'data', name: stray })).toEqual({ size: 1000 })
    // What it wrote is locked now as well, and nothing of it is tried.
    expect(await repository.prune({ mostUnused: { bytes: 0 } })).toMatchObject({ freedBytes: 0, kept: { packs: 1, bytes: 1000 } })
    expect(await Array.fromAsync(locked.list('lock'))).toEqual([])
    const { url, environment } = stockRestic(server, bucket)
    const stock = stockOf(url, [], environment)
    expect(String(await stock('check', '--read-data'))).toContain('no errors were found')
    expect(Buffer.compare(await readBack(repository, id, 'vm', 'disk.img'), image)).toBe(0)
  })
})
