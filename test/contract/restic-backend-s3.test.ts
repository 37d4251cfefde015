import { hash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RunId, Secret, systemClock } from '../../src/core/index.ts'
import { CONFIG_FILE, type FileKind } from '../../src/restic/index.ts'
import { Bucket } from '../../src/restic/s3/bucket.ts'
import { describePeers } from '../peer.ts'
import { type Fault, startFaultProxy } from '../s3-faults.ts'
import { hurriedClock, makeBucket, s3Client, s3Place } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, startS3Server } from '../s3-server.ts'
import { backendContract } from './restic-backend.ts'

const MIB = 1024 * 1024
const RUN = 'dead000000' as RunId

const named = (kind: FileKind, data: Uint8Array) => ({ kind, name: hash('sha256', data) })
const keyOf = (name: string): string => `backups/repo/data/${name.slice(0, 2)}/${name}`

describePeers(S3_SERVER_PEERS, 'a repository in a bucket', (programs) => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
  })
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]()
  })

  backendContract('in a bucket', async () => {
    const backend = s3Place(server, await makeBucket(server))
    return { backend, [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose]() }
  })

  it('is reached over TLS with the authority given, by bucket name in the host too, at the root of a bucket too', async () => {
    const bucket = await makeBucket(server)
    const ca = () => readFile(server.certificate, 'utf8')
    const data = randomBytes(100)
    const file = named('data', data)
    const endpoint = `https://${server.domain}:${server.tlsPort}`
    const resolve: NonNullable<Parameters<typeof s3Place>[2]>['resolve'] = (_name, options, found) =>
      options.all === true ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4)
    await using byName = s3Place(server, bucket, { endpoint, ca, resolve, lookup: 'dns', prefix: '' })
    await byName.save(file, data)
    expect(await Array.fromAsync(byName.list('data'))).toEqual([{ name: file.name, size: 100 }])
    await using byPath = s3Place(server, bucket, { endpoint: server.tlsEndpoint, ca, prefix: '' })
    expect(Buffer.compare(await byPath.load(file), data)).toBe(0)
    await using elsewhere = s3Place(server, bucket)
    expect(await elsewhere.stat(file)).toBeUndefined()
    await using untrusting = s3Place(server, bucket, { endpoint: server.tlsEndpoint })
    await expect(untrusting.stat(CONFIG_FILE)).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining('is not trusted'),
      next: expect.stringContaining('caFile'),
    })
  })

  it('takes prefixes with any letters, and lists more than a page', async () => {
    const bucket = await makeBucket(server)
    await using backend = s3Place(server, bucket, { prefix: 'dé pôt+a&b=c~(1)*/100%25' })
    const files = Array.from({ length: 1007 }, (_, index) => Buffer.from(`${index}`))
    let next = 0
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let at = next++; at < files.length; at = next++) {
          const data = files[at] ?? Buffer.alloc(0)
          await backend.save({ kind: 'index', name: hash('sha256', data) }, data)
        }
      }),
    )
    const listed = await Array.fromAsync(backend.list('index'))
    expect(new Set(listed.map(({ name }) => name))).toEqual(new Set(files.map((data) => hash('sha256', data))))
    expect(listed).toHaveLength(1007)
  })

  it('large files go in parts, and one that fails in the middle leaves none of them', async () => {
    const bucket = await makeBucket(server)
    const data = randomBytes(11 * MIB + 7)
    const file = named('data', data)
    const parts = { from: 6 * MIB, each: 5 * MIB }
    await using client = new Bucket(s3Client(server, bucket))
    {
      await using proxy = await startFaultProxy(server.port, ({ url = '' }) =>
        url.includes('partNumber=2') ? { status: 403, code: 'AccessDenied' } : 'none',
      )
      await using broken = s3Place(server, bucket, { endpoint: proxy.endpoint, parts })
      await expect(broken.save(file, data)).rejects.toMatchObject({ code: 'CONFIG' })
      expect(await client.unfinishedUploads('')).toEqual([])
      expect(await broken.stat(file)).toBeUndefined()
    }
    {
      // In a storm giving up fails as well: the file is stored by another try, and what was left goes when the backend is closed.
      let left = 4
      await using proxy = await startFaultProxy(server.port, ({ url = '', method }) =>
        (url.includes('partNumber=2') || method === 'DELETE') && left-- > 0 ? { status: 503, code: 'SlowDown' } : 'none',
      )
      {
        await using stormy = s3Place(server, bucket, { endpoint: proxy.endpoint, parts, clock: hurriedClock })
        await stormy.save(file, data)
        expect(await client.unfinishedUploads('')).toHaveLength(2)
      }
      expect(await client.unfinishedUploads('')).toEqual([])
      expect(proxy.counts.faults).toBe(4)
    }
    await using backend = s3Place(server, bucket, { parts })
    await backend.save(file, data)
    expect(Buffer.compare(await backend.load(file), data)).toBe(0)
    expect(await client.unfinishedUploads('')).toEqual([])
  })

  it('uploads in parts that a dead process began go with recovery once no living one can have begun them', async () => {
    const bucket = await makeBucket(server)
    await using client = s3Client(server, bucket)
    const file = named('data', randomBytes(10))
    await client.send({ method: 'POST', key: keyOf(file.name), query: { uploads: '' }, what: 'begin' })
    await client.send({ method: 'POST', key: 'of/somebody/else', query: { uploads: '' }, what: 'begin' })
    await using young = s3Place(server, bucket)
    expect(await young.removeHalfSaved(RUN)).toEqual([])
    await systemClock.sleep(30)
    await using old = s3Place(server, bucket, { parts: { from: MIB, each: MIB, abandonedAfterMs: 10 } })
    expect(await old.removeHalfSaved(RUN)).toEqual([`${old.url} ${keyOf(file.name)}`])
    expect(await old.removeHalfSaved(RUN)).toEqual([])
    expect((await new Bucket(client).unfinishedUploads('')).map(({ key }) => key)).toEqual(['of/somebody/else'])
  })

  it.each([
    [403, 'AccessDenied'],
    [501, 'NotImplemented'],
  ])('where unfinished uploads cannot be listed (%i) they are left to a rule of the bucket', async (status, code) => {
    const bucket = await makeBucket(server)
    await using proxy = await startFaultProxy(server.port, ({ url = '' }) => (url.includes('uploads') ? { status, code } : 'none'))
    await using backend = s3Place(server, bucket, { endpoint: proxy.endpoint })
    expect(await backend.removeHalfSaved(RUN)).toEqual([])
    expect(proxy.counts.faults).toBe(1)
  })

  it('tells bucket, key pair, rights, clock, TLS and settings apart, at once, each with what to do', async () => {
    const bucket = await makeBucket(server)
    const secret = (text: string) => ({ secretAccessKey: new Secret(text) })
    const { owner, stranger } = server
    const told = async (change: Parameters<typeof s3Place>[2], name = bucket): Promise<unknown> => {
      await using backend = s3Place(server, name, change)
      return await backend.stat(CONFIG_FILE).then(
        () => 'no error',
        (error: unknown) => error,
      )
    }
    const nobody = { credentials: async () => ({ accessKeyId: 'NOBODY', ...secret('x') }) }
    const wrong = { credentials: async () => ({ accessKeyId: owner.accessKeyId, ...secret('x') }) }
    const other = { credentials: async () => ({ accessKeyId: stranger.accessKeyId, ...secret(stranger.secretAccessKey) }) }
    const late = { ...systemClock, now: () => new Date(systemClock.now().getTime() - 3_600_000) }
    expect(await told({}, 'no-such-bucket')).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(/^There is no bucket no-such-bucket on 127/),
      next: expect.stringContaining('Make the bucket'),
    })
    expect(await told(nobody)).toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining('does not accept the key pair (InvalidAccessKeyId)'),
    })
    expect(await told(wrong)).toMatchObject({ code: 'AUTH', message: expect.stringContaining('(SignatureDoesNotMatch)') })
    expect(await told(other)).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('The key pair may not list'),
      next: expect.stringContaining('docs/repositories.md'),
    })
    expect(await told({ clock: late })).toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/are (3599|360[01]) s apart/),
      next: expect.stringContaining('NTP'),
    })
    expect(await told({ endpoint: server.endpoint.replace('http:', 'https:') })).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('does not speak TLS'),
    })
    expect(await told({ objectLock: { mode: 'governance', days: 1 } })).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('has no Object Lock'),
    })
    await using classed = s3Place(server, bucket, { storageClass: 'NO_SUCH' })
    const data = randomBytes(10)
    await expect(classed.save(named('data', data), data)).rejects.toMatchObject({ code: 'CONFIG' })
    // Only packs go there: locks and indices are read again and again.
    await classed.save(named('index', data), data)
  })

  it('no byte changes on its way unseen: not from memory, not between here and there', async () => {
    const bucket = await makeBucket(server)
    const data = randomBytes(100_000)
    const file = named('data', data)
    await using direct = s3Place(server, bucket)
    const changed = Buffer.from(data)
    changed[5000] = (changed[5000] ?? 0) ^ 1
    await expect(direct.save(file, changed)).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringContaining('does not hold what its name says'),
    })
    expect(await direct.stat(file)).toBeUndefined()
    let damages = 3
    await using proxy = await startFaultProxy(server.port, ({ method }) =>
      method === 'PUT' && damages-- > 0 ? 'damage the request' : 'none',
    )
    await using backend = s3Place(server, bucket, { endpoint: proxy.endpoint, clock: hurriedClock })
    await backend.save(file, data)
    expect(proxy.counts.faults).toBe(3)
    expect(Buffer.compare(await direct.load(file), data)).toBe(0)
    expect(await Array.fromAsync(direct.list('data'))).toHaveLength(1)
  })

  it.each<[string, Fault]>([
    ['SlowDown', { status: 503, code: 'SlowDown', headers: { 'retry-after': '0' } }],
    ['429', { status: 429, code: 'TooManyRequests' }],
    ['500', { status: 500, code: 'InternalError' }],
    ['a cut request', 'cut the request'],
    ['a cut after it was done', 'cut after it was done'],
    ['a cut answer', 'cut the answer'],
  ])('each call survives %s, twice in a row', async (_what, fault) => {
    const bucket = await makeBucket(server)
    let left = 0
    await using proxy = await startFaultProxy(server.port, () => (left-- > 0 ? fault : 'none'))
    await using backend = s3Place(server, bucket, { endpoint: proxy.endpoint, clock: hurriedClock })
    const data = randomBytes(70_000)
    const file = named('data', data)
    const calls: readonly [string, () => Promise<unknown>, unknown][] = [
      ['stat', () => backend.stat(CONFIG_FILE), undefined],
      ['save', () => backend.save(file, data), undefined],
      ['load', () => backend.load(file), data],
      ['range', () => backend.load(file, { range: { offset: 1000, length: 50_000 } }), data.subarray(1000, 51_000)],
      ['list', () => Array.fromAsync(backend.list('data')), [{ name: file.name, size: data.length }]],
      ['remove', () => backend.remove(file), undefined],
    ]
    for (const [name, call, expected] of calls) {
      left = 2
      expect(await call(), name).toEqual(expected)
    }
    expect(proxy.counts.faults).toBe(12)
    expect(await backend.stat(file)).toBeUndefined()
  })

  it('Object Lock: what is locked is refused before the server is asked, with the moment; locks go, and what is free again', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    await using client = s3Client(server, bucket)
    const objectLock = { mode: 'governance', days: 2 } as const
    await using backend = s3Place(server, bucket, { objectLock })
    const data = randomBytes(1000)
    const [pack, snapshot, lock] = [named('data', data), named('snapshot', data), named('lock', data)]
    const before = systemClock.now().getTime()
    for (const file of [pack, snapshot, lock, CONFIG_FILE]) await backend.save(file, data)
    for (const file of [pack, snapshot, CONFIG_FILE]) {
      const until = await backend.lockedUntil?.(file)
      expect(Math.abs((until?.getTime() ?? 0) - before - 2 * 86_400_000)).toBeLessThan(60_000)
      await expect(backend.remove(file)).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringMatching(/is locked until 20\d\d-/),
      })
      expect(await backend.stat(file)).toEqual({ size: 1000 })
    }
    expect(await backend.lockedUntil?.(lock)).toBeUndefined()
    await backend.remove(lock)
    expect(await backend.stat(lock)).toBeUndefined()
    // Nobody who has only the rights of a backup removes the version either; with versions kept, a plain DELETE hides it and no more.
    const { headers } = await client.send({ method: 'HEAD', key: keyOf(pack.name), what: 'look' })
    await expect(
      client.send({ method: 'DELETE', key: keyOf(pack.name), query: { versionId: headers['x-amz-version-id'] ?? '' }, what: 'remove' }),
    ).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('keeps what is locked') })
    await using short = s3Place(server, bucket, { objectLock: { mode: 'compliance', days: 2 / 86_400 }, prefix: 'short' })
    await short.save(pack, data)
    await expect(short.remove(pack)).rejects.toMatchObject({ code: 'CONFLICT' })
    await systemClock.sleep(2100)
    await short.remove(pack)
    expect(await short.stat(pack)).toBeUndefined()
  })
})
