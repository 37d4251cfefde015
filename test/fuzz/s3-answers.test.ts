import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { AgentError, isAgentError, Secret, systemClock } from '../../src/core/index.ts'
import { Bucket } from '../../src/restic/s3/bucket.ts'
import { S3Client } from '../../src/restic/s3/s3-client.ts'

/* A server that answers anything at all: what comes back is a sound value or one AgentError, soon, and no more memory than an answer may have. */
type Answer = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer; readonly cut: boolean }

let server: Server
let answer: Answer
let sent = 0
let endless = false
beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume()
    if (endless) {
      response.writeHead(200)
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(1024 * 1024, 32))) sent++
        if (!response.destroyed) response.once('drain', more)
      }
      more()
      return
    }
    const { status, headers, body, cut } = answer
    response.writeHead(status, headers)
    if (cut) response.write(body, () => response.destroy())
    else response.end(body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
})
afterAll(async () => {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
})

const open = (): Bucket =>
  new Bucket(
    new S3Client({
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      bucket: 'backups',
      region: 'us-east-1',
      lookup: 'path',
      clock: systemClock,
      credentials: async () => ({ accessKeyId: 'AK', secretAccessKey: new Secret('SECRET-OF-THE-TEST') }),
    }),
  )

const BODIES = [
  '<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>a%2Fb</Key><Size>7</Size></Contents></ListBucketResult>',
  '<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2026-11-26T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>',
  '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>',
  '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>',
  '<Error><Code>InternalError</Code><Message>m</Message></Error>',
  '<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2026-11-26T00:00:00Z</RetainUntilDate></Retention>',
  '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>',
]

const anyAnswer: fc.Arbitrary<Answer> = fc.record({
  status: fc.constantFrom(200, 200, 200, 204, 206, 301, 307, 400, 403, 404, 416, 429, 500, 503),
  headers: fc.dictionary(
    fc.constantFrom('x-amz-object-lock-retain-until-date', 'etag', 'retry-after', 'date', 'x-amz-bucket-region', 'content-type'),
    fc.constantFrom('', '7', '-1', 'x', '2026-11-26T00:00:00Z', '999999999999999999999', 'Thu, 26 Nov 2026 22:00:00 GMT'),
  ),
  body: fc
    .tuple(fc.constantFrom(...BODIES), fc.array(fc.tuple(fc.nat(200), fc.nat(255), fc.nat(5)), { maxLength: 4 }))
    .map(([text, damages]) =>
      damages.reduce<Buffer>((bytes, [at, value, drop]) => {
        const place = Math.min(at, bytes.length)
        return Buffer.concat([bytes.subarray(0, place), Buffer.from([value]), bytes.subarray(place + drop)])
      }, Buffer.from(text)),
    ),
  cut: fc.boolean(),
})

it('whatever a server answers to whatever call, the result is sound or one AgentError without the secret', async () => {
  await using bucket = open()
  const data = Buffer.from('data')
  const sha256 = '3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7'
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    page: async () => {
      const { objects } = await bucket.page('p/', undefined)
      return objects.every(({ key, size }) => typeof key === 'string' && Number.isSafeInteger(size) && size >= 0)
    },
    uploads: async () => (await bucket.unfinishedUploads('p/')).every(({ begunAt }) => Number.isFinite(begunAt)),
    head: async () => ((await bucket.head('k'))?.size ?? 0) >= 0,
    get: async () => Buffer.isBuffer(await bucket.get('k', { into: Buffer.alloc(100) })) || true,
    range: async () => ((await bucket.get('k', { range: { offset: 3, length: 5 } }))?.length ?? 5) === 5,
    retention: async () => {
      const kept = await bucket.retention('k')
      return kept === undefined || kept === 'missing' || Number.isFinite(kept.until)
    },
    retain: async () => (await bucket.retain('k', { mode: 'GOVERNANCE', until: 1_800_000_000_000 })) === undefined,
    lock: async () => typeof (await bucket.hasObjectLock()) === 'boolean',
    put: async () => (await bucket.put('k', data, { sha256 })) === undefined,
    parts: async () => (await bucket.putInParts('k', data, 2, { sha256 })) === undefined,
    remove: async () => (await bucket.remove('k')) === undefined,
  }
  await fc.assert(
    fc.asyncProperty(anyAnswer, fc.constantFrom(...Object.keys(calls)), async (next, name) => {
      answer = next
      try {
        expect(await calls[name]?.(), name).toBe(true)
      } catch (error) {
        expect(isAgentError(error), `${name}: ${String(error)}`).toBe(true)
        expect(isAgentError(error, 'INTERNAL'), String(error)).toBe(false)
        expect(error instanceof AgentError && `${error.message} ${error.next}`).not.toContain('SECRET-OF-THE-TEST')
      }
    }),
    { seed: 9, numRuns: 1500 },
  )
})

it('an answer without an end is not read to it', async () => {
  endless = true
  await using bucket = open()
  await expect(bucket.page('p/', undefined)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('sent more than it may'),
  })
  expect(sent).toBeLessThan(64)
  endless = false
})
