import { execFile } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Clock, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { initRepository, openRepository, type Repository, type RepositoryPlace } from '../../src/restic/index.ts'
import { openLockEnds } from '../../src/state/index.ts'
import { Bucket } from '../../src/restic/s3/bucket.ts'
import { describePeers } from '../peer.ts'
import { deps, FAST_KDF, fileNode, PASSWORD, readBack, storeImage } from '../peers/restic-fixture.ts'
import { type Fault, startFaultProxy } from '../s3-faults.ts'
import { hurriedClock, makeBucket, s3Client, s3Place, stockRestic } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, startS3Server } from '../s3-server.ts'

/* Renewal of Object Lock on a real server: what it says of each file is the judge. */

const MIB = 1024 * 1024
const DAY = 24 * 3_600_000
const SETTINGS = { packSize: 4 * MIB, blockSize: 64 * 1024, workers: 1 } as const
/** Nobody waits here to see whether a lock of his stays. */
const hurried = { ...deps(), clock: hurriedClock }
type Mode = 'governance' | 'compliance'

let cache: string
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'vcb-renewal-'))
})
afterAll(() => rm(cache, { recursive: true, force: true }))

/** A snapshot made now. */
async function save(repository: Repository, image: Buffer): Promise<string> {
  await using writer = await repository.beginWrite()
  const content = await storeImage(writer, image)
  const inner = await writer.saveTree([fileNode('disk.img', image.length, content)])
  const time = systemClock.now().toISOString()
  const tree = await writer.saveTree([{ name: 'vm', type: 'dir', mode: 0o700, mtime: time, subtree: inner }])
  return await writer.commit({ time, tree, paths: ['/vm'], hostname: 'vm', username: 'tester' })
}

const renew = async (
  place: RepositoryPlace,
  options: { readonly dryRun?: boolean; readonly cached?: string; readonly clock?: Clock } = {},
) => {
  const { cached, clock = hurriedClock, dryRun } = options
  await using repository = await openRepository(
    place,
    new Secret(PASSWORD),
    { ...deps(), clock },
    {
      ...SETTINGS,
      cacheDirectory: cached,
      lockEnds: (directory) => openLockEnds({ directory, clock, log: silentLog }),
    },
  )
  return (await repository.renewLocks?.({ dryRun })) ?? expect.fail('nothing is kept there')
}

describePeers([...S3_SERVER_PEERS, 'restic'], 'Object Lock', (programs) => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
  }, 90_000)
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]()
  })

  const lockedFor = (bucket: string, days: number, mode: Mode = 'governance', more: Parameters<typeof s3Place>[2] = {}): RepositoryPlace =>
    s3Place(server, bucket, { objectLock: { mode, days }, ...more })

  /** How the server keeps each file but locks, by its key. */
  const locksOf = async (bucket: string): Promise<ReadonlyMap<string, { readonly mode: string; readonly until: number }>> => {
    await using client = new Bucket(s3Client(server, bucket))
    const found = new Map<string, { readonly mode: string; readonly until: number }>()
    let token: string | undefined
    do {
      const page: Awaited<ReturnType<Bucket['page']>> = await client.page('backups/repo/', token)
      for (const { key } of page.objects) {
        if (key.includes('/locks/')) continue
        const kept = await client.retention(key)
        if (kept === undefined || kept === 'missing') throw new TypeError(`${key} is not kept`)
        found.set(key, kept)
      }
      token = page.next
    } while (token !== undefined)
    return found
  }

  /** Two points that share their blocks, locked for a day. */
  const makePoints = async (
    bucket: string,
    mode: Mode = 'governance',
  ): Promise<{ readonly ids: readonly string[]; readonly image: Buffer }> => {
    await using place = lockedFor(bucket, 1, mode)
    await using repository = await initRepository(place, new Secret(PASSWORD), hurried, { kdf: FAST_KDF, ...SETTINGS })
    const image = randomBytes(5 * MIB)
    const ids = [await save(repository, image)]
    randomBytes(MIB).copy(image, 3 * MIB)
    ids.push(await save(repository, image))
    return { ids, image }
  }

  it.each<[Mode, Mode]>([
    ['governance', 'governance'],
    ['compliance', 'compliance'],
    ['governance', 'compliance'],
    ['compliance', 'governance'],
  ])('files saved under %s are kept longer by who is configured for %s, in the mode that they have', async (saved, configured) => {
    const bucket = await makeBucket(server, { objectLock: true })
    const begun = systemClock.now().getTime()
    const { ids, image } = await makePoints(bucket, saved)
    const before = await locksOf(bucket)
    await using place = lockedFor(bucket, 10, configured)
    const planned = await renew(place, { dryRun: true })
    expect(await locksOf(bucket)).toEqual(before)
    expect(planned).toMatchObject({ snapshots: 2, lengthened: before.size, asked: before.size })
    expect(planned.short.map(({ snapshot }) => snapshot).toSorted()).toEqual([...ids].toSorted())
    const cached = join(cache, bucket)
    expect(await renew(place, { cached })).toMatchObject({ snapshots: 2, lengthened: before.size, short: [] })
    const after = await locksOf(bucket)
    expect([...after.keys()]).toEqual([...before.keys()])
    for (const [key, { mode, until }] of after) {
      expect(mode, key).toBe(saved.toUpperCase())
      expect(until, key).toBeGreaterThanOrEqual(begun + 10 * DAY)
      expect(until, key).toBeLessThanOrEqual(systemClock.now().getTime() + 13 * DAY)
    }
    expect(await renew(place, { cached })).toMatchObject({ asked: 0, lengthened: 0, short: [] })
    expect(await renew(place)).toMatchObject({ asked: before.size, lengthened: 0, short: [] })
    expect(await locksOf(bucket)).toEqual(after)
    if (saved !== configured) return
    // Neither we nor stock restic see anything else than before.
    await using repository = await openRepository(place, new Secret(PASSWORD), hurried, SETTINGS)
    expect(Buffer.compare(await readBack(repository, ids[1] ?? '', 'vm', 'disk.img'), image)).toBe(0)
    expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
    const { url, environment } = stockRestic(server, bucket)
    const env = { ...process.env, ...environment, RESTIC_REPOSITORY: url, RESTIC_PASSWORD: PASSWORD }
    expect((await promisify(execFile)(programs.restic, ['--no-cache', 'check', '--read-data'], { env })).stdout).toContain(
      'no errors were found',
    )
  })

  it('the server refuses what would be shorter, and nothing of ours becomes so whoever renews what at the same time', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    await makePoints(bucket)
    await using client = new Bucket(s3Client(server, bucket))
    const [[key, first] = expect.fail()] = await locksOf(bucket)
    await expect(client.retain(key, { mode: 'GOVERNANCE', until: first.until - DAY })).rejects.toMatchObject({
      code: expect.stringMatching(/CONFIG|CONFLICT/u),
    })
    let known = await locksOf(bucket)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 2, maxLength: 4 }), async (days) => {
        const places = days.map((each, index) => lockedFor(bucket, each, index % 2 === 0 ? 'governance' : 'compliance'))
        const reports = await Promise.all(places.map((place) => renew(place)))
        for (const place of places) await place[Symbol.asyncDispose]()
        for (const { short } of reports) expect(short).toEqual([])
        const now = await locksOf(bucket)
        // Of two who are told at the same time that it is done the server keeps one.
        const least = systemClock.now().getTime() + Math.min(...days) * DAY - 120_000
        for (const [each, { mode, until }] of now) {
          expect(until, each).toBeGreaterThanOrEqual(known.get(each)?.until ?? 0)
          expect(until, each).toBeGreaterThanOrEqual(least)
          expect(mode, each).toBe('GOVERNANCE')
        }
        known = now
      }),
      { numRuns: 4, seed: 7 },
    )
    await using last = lockedFor(bucket, 500)
    const done = await renew(last)
    expect(done).toMatchObject({ lengthened: known.size, short: [] })
    for (const [each, { until }] of await locksOf(bucket)) expect(until, each).toBeGreaterThan(systemClock.now().getTime() + 499 * DAY)
  })

  it('a storm of refusals, cuts and pauses loses nothing: it ends when they end, and goes on where it was cut off', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    const begun = systemClock.now().getTime()
    await makePoints(bucket)
    const before = await locksOf(bucket)
    const faults: readonly Fault[] = [
      { status: 503, code: 'SlowDown' },
      { status: 500, code: 'InternalError' },
      { status: 429, code: 'TooManyRequests', headers: { 'retry-after': '0' } },
      'cut the request',
      'cut after it was done',
      'cut the answer',
      'damage the request',
    ]
    let [count, done, dead] = [0, 0, false]
    await using proxy = await startFaultProxy(server.port, ({ method, url = '' }) => {
      if (url.includes('/locks/') || (!url.includes('retention') && method !== 'HEAD')) return 'none'
      if (dead) return { status: 403, code: 'AccessDenied' }
      // The process that is cut off: nothing of it gets through from its third lock on.
      if (method === 'PUT' && ++done === 3) dead = true
      return ++count % 2 === 0 ? (faults[count % faults.length] ?? 'none') : 'none'
    })
    await using place = lockedFor(bucket, 10, 'governance', { endpoint: proxy.endpoint, clock: hurriedClock })
    const cached = join(cache, bucket)
    await expect(renew(place, { cached })).rejects.toMatchObject({ code: 'CONFIG' })
    dead = false
    const { asked, short } = await renew(place, { cached, clock: hurriedClock })
    expect(short).toEqual([])
    expect(asked).toBeLessThan(before.size)
    expect(proxy.counts.faults).toBeGreaterThan(before.size / 2)
    const after = await locksOf(bucket)
    expect([...after.keys()]).toEqual([...before.keys()])
    for (const [key, { until }] of after) expect(until, key).toBeGreaterThanOrEqual(begun + 10 * DAY)
    await using direct = lockedFor(bucket, 10)
    expect(await renew(direct)).toMatchObject({ lengthened: 0, short: [] })
  })

  it('a key pair without the right is told so, nothing is changed, and its backups stand', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    const { ids, image } = await makePoints(bucket)
    await using owner = s3Client(server, bucket)
    const grant = async (...denied: readonly string[]): Promise<void> => {
      const resource = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`]
      const principal = { AWS: ['arn:aws:iam:::user/stranger'] }
      const statements = [
        { Effect: 'Allow', Principal: principal, Action: ['s3:*'], Resource: resource },
        ...(denied.length === 0 ? [] : [{ Effect: 'Deny', Principal: principal, Action: denied, Resource: resource }]),
      ]
      const body = Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: statements }))
      await owner.send({ method: 'PUT', query: { policy: '' }, body, bodySha256: hash('sha256', body), what: 'grant' })
    }
    const { accessKeyId, secretAccessKey } = server.stranger
    const credentials = async () => ({ accessKeyId, secretAccessKey: new Secret(secretAccessKey) })
    await using place = lockedFor(bucket, 10, 'governance', { credentials })
    const before = await locksOf(bucket)
    await grant('s3:PutObjectRetention')
    await expect(renew(place)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(
        /^The Object Lock of backups\/repo\/\S+ in \S+ could not be made longer: The key pair may not lengthen the lock of /u,
      ),
      next: expect.stringContaining('s3:PutObjectRetention'),
    })
    expect(await locksOf(bucket)).toEqual(before)
    {
      await using repository = await openRepository(place, new Secret(PASSWORD), hurried, SETTINGS)
      expect(Buffer.compare(await readBack(repository, ids[1] ?? '', 'vm', 'disk.img'), image)).toBe(0)
      expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
      expect(await Array.fromAsync(place.list('lock'))).toEqual([])
    }
    await grant()
    expect(await renew(place)).toMatchObject({ lengthened: before.size, short: [] })
  })

  it('a prune hides index files that are kept behind new ones, and their versions stay', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    // Packs that are free, as after their days; index files that are kept.
    {
      await using free = s3Place(server, bucket)
      await using repository = await initRepository(free, new Secret(PASSWORD), hurried, { kdf: FAST_KDF, ...SETTINGS })
      const first = await save(repository, randomBytes(9 * MIB))
      await save(repository, randomBytes(5 * MIB))
      await repository.snapshots.forget([first])
    }
    await using place = lockedFor(bucket, 1)
    await renew(place)
    await using repository = await openRepository(place, new Secret(PASSWORD), hurried, SETTINGS)
    const index = (await Array.fromAsync(place.list('index'))).map(({ name }) => name)
    for (const name of index) expect(await place.lockedUntil?.({ kind: 'index', name })).toBeDefined()
    const done = await repository.prune({ mostUnused: { bytes: 0 } })
    expect(done.freedBytes).toBeGreaterThan(8 * MIB)
    expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
    await using client = s3Client(server, bucket)
    const { body } = await client.send({ method: 'GET', query: { versions: '', prefix: 'backups/repo/index/' }, what: 'list versions' })
    const versions = body.toString()
    for (const name of index) expect(versions).toContain(name)
    const left = (await Array.fromAsync(place.list('index'))).map(({ name }) => name)
    expect(index.filter((name) => !left.includes(name)).length).toBeGreaterThan(0)
    const { url, environment } = stockRestic(server, bucket)
    const env = { ...process.env, ...environment, RESTIC_REPOSITORY: url, RESTIC_PASSWORD: PASSWORD }
    expect((await promisify(execFile)(programs.restic, ['--no-cache', 'check', '--read-data'], { env })).stdout).toContain(
      'no errors were found',
    )
  })
})
