import { execFile } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Secret } from '../../src/core/index.ts'
import { CONFIG_FILE, initRepository, openRepository, type Repository, type RepositoryPlace } from '../../src/restic/index.ts'
import { describePeers } from '../peer.ts'
import { type Fault, startFaultProxy } from '../s3-faults.ts'
import { hurriedClock, makeBucket, s3Client, s3Place, stockRestic } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, startS3Server, type S3User } from '../s3-server.ts'
import { backupImage, deps, FAST_KDF, PASSWORD, readBack, testImage } from './restic-fixture.ts'

const MIB = 1024 * 1024
const OPTIONS = { kdf: FAST_KDF, packSize: 4 * MIB, workers: 2 }

describePeers([...S3_SERVER_PEERS, 'restic'], 'stock restic on the same bucket', (programs) => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
  })
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]()
  })

  const restic = (bucket: string, ...argv: readonly string[]): Promise<Buffer> => resticOf(server.owner, bucket, ...argv)
  const resticOf = async (user: S3User, bucket: string, ...argv: readonly string[]): Promise<Buffer> => {
    const { url, environment } = stockRestic(server, bucket, user)
    const env = { ...process.env, ...environment, RESTIC_REPOSITORY: url, RESTIC_PASSWORD: PASSWORD }
    return (await promisify(execFile)(programs.restic, ['--no-cache', ...argv], { env, encoding: 'buffer', maxBuffer: 64 * MIB })).stdout
  }
  const init = (place: RepositoryPlace): Promise<Repository> => initRepository(place, new Secret(PASSWORD), deps(), OPTIONS)

  it('finds everything whole that was written and read through cuts, damage, throttling and storms of 5xx', async () => {
    const bucket = await makeBucket(server)
    // The same numbers each time; every third request meets something, and the last fifteen of each hundred all do.
    let state = 20261126
    const random = (): number => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31
    const faults: readonly Fault[] = [
      { status: 503, code: 'SlowDown' },
      { status: 500, code: 'InternalError' },
      { status: 429, code: 'TooManyRequests', headers: { 'retry-after': '0' } },
      'cut the request',
      'cut after it was done',
      'cut the answer',
      'damage the request',
    ]
    let count = 0
    const pick = (): Fault => faults[Math.floor(random() * faults.length)] ?? 'none'
    await using proxy = await startFaultProxy(server.port, () => {
      const storm = ++count % 100 >= 85
      if (storm) return { status: 503, code: 'ServiceUnavailable' }
      return count > 3 && random() < 0.33 ? pick() : 'none'
    })
    await using place = s3Place(server, bucket, { endpoint: proxy.endpoint, clock: hurriedClock, parts: { from: 5 * MIB, each: 5 * MIB } })
    const image = testImage(24)
    let first: string
    let second: string
    {
      await using repository = await init(place)
      first = await backupImage(repository, image)
      randomBytes(3 * MIB).copy(image, 7 * MIB)
      second = await backupImage(repository, image)
      expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
      expect(Buffer.compare(await readBack(repository, second, 'vm', 'disk.img'), image)).toBe(0)
    }
    expect(proxy.counts.faults).toBeGreaterThan(50)
    await restic(bucket, 'check', '--read-data')
    expect(Buffer.compare(await restic(bucket, 'dump', second, '/vm/disk.img'), image)).toBe(0)
    expect((await restic(bucket, 'list', 'locks')).toString()).toBe('')
    // And we read what stock restic leaves after its own forget and prune.
    await restic(bucket, 'forget', first, '--prune', '--max-unused', '0')
    await using again = await openRepository(place, new Secret(PASSWORD), deps(), OPTIONS)
    expect(Buffer.compare(await readBack(again, second, 'vm', 'disk.img'), image)).toBe(0)
    expect(await Array.fromAsync(again.check({ readData: true }))).toEqual([])
  }, 120_000)

  it('the rights that docs/repositories.md lists are enough, and those that only add let nothing be removed', async () => {
    const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'repositories.md'), 'utf8')
    const [all = '', adding = ''] = [...page.matchAll(/```json\n(.*?)```/gsu)].map(([, text]) => text)
    const bucket = await makeBucket(server)
    await using owner = s3Client(server, bucket)
    const grant = async (policy: string): Promise<void> => {
      const principal = '"Principal": { "AWS": ["arn:aws:iam:::user/stranger"] }, "Effect"'
      const body = Buffer.from(
        policy
          .replaceAll('"Effect"', principal)
          .replaceAll('example-backups/vms', `${bucket}/backups/repo`)
          .replaceAll('example-backups', bucket),
      )
      await owner.send({ method: 'PUT', query: { policy: '' }, body, bodySha256: hash('sha256', body), what: 'grant' })
    }
    const { accessKeyId, secretAccessKey } = server.stranger
    const credentials = async () => ({ accessKeyId, secretAccessKey: new Secret(secretAccessKey) })
    await using place = s3Place(server, bucket, { credentials, parts: { from: 5 * MIB, each: 5 * MIB } })
    await expect(place.stat(CONFIG_FILE)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('The key pair may not list'),
    })

    await grant(all)
    await using repository = await init(place)
    const image = testImage(6)
    const first = await backupImage(repository, image)
    const second = await backupImage(repository, image, 'other.img')
    await repository.snapshots.forget([first])
    const large = randomBytes(6 * MIB)
    await place.save({ kind: 'data', name: hash('sha256', large) }, large)
    await place.remove({ kind: 'data', name: hash('sha256', large) })
    expect(await place.removeHalfSaved('run0000001' as never)).toEqual([])
    await using elsewhere = s3Place(server, bucket, { credentials, prefix: 'elsewhere' })
    await expect(elsewhere.save(CONFIG_FILE, Buffer.from('x'))).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('may not write elsewhere/config'),
    })

    await grant(adding)
    const third = await backupImage(repository, image, 'third.img')
    await expect(repository.snapshots.forget([second])).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining(`The key pair may not remove backups/repo/snapshots/${second}`),
    })
    expect(Buffer.compare(await readBack(repository, third, 'vm', 'third.img'), image)).toBe(0)
    expect(await Array.fromAsync(place.list('lock'))).toEqual([])
    await resticOf(server.stranger, bucket, 'check', '--read-data')
  })
})
