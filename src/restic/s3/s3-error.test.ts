import { expect, it } from 'vitest'
import { isAgentError } from '../../core/index.ts'
import { BusyError } from '../tries.ts'
import { readRefusal, refusalError } from './s3-error.ts'

const now = new Date('2026-11-26T22:00:00Z')
const xml = (code: string, more = ''): Buffer =>
  Buffer.from(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>said so</Message>${more}</Error>`)
const refused = (status: number, body: Uint8Array, headers: Record<string, string> = {}) =>
  refusalError(readRefusal(status, headers, body, 'host'), { bucket: 'b', region: 'us-east-1', host: 'host', what: 'read k', now })

// Codes and statuses: Amazon S3 API reference, "Error responses".
it.each([
  [301, xml('PermanentRedirect'), { 'x-amz-bucket-region': 'eu-central-1' }, 'CONFIG', /lies in the region eu-central-1, not in us-east-1/],
  [400, xml('AuthorizationHeaderMalformed', '<Region>eu-west-1</Region>'), {}, 'CONFIG', /lies in the region eu-west-1/],
  [301, Buffer.alloc(0), {}, 'CONFIG', /lies not in us-east-1/],
  [403, xml('RequestTimeTooSkewed'), { date: 'Thu, 26 Nov 2026 21:00:00 GMT' }, 'CONFIG', /3600 s apart/],
  [403, xml('RequestTimeTooSkewed'), {}, 'CONFIG', /more than 15 minutes apart/],
  [404, xml('NoSuchBucket'), {}, 'NOT_FOUND', /no bucket b on host/],
  [403, xml('AccessDenied'), {}, 'CONFIG', /may not read k in the bucket b of host/],
  [403, Buffer.alloc(0), {}, 'CONFIG', /\(status 403\)/],
  [400, xml('ExpiredToken'), {}, 'AUTH', /does not accept the key pair/],
  [403, xml('QuotaExceeded'), {}, 'CAPACITY', /no room/],
  [507, xml('XMinioStorageFull'), {}, 'CAPACITY', /no room/],
  [500, xml('InternalError'), {}, 'UNAVAILABLE', /could not read k/],
  [502, Buffer.from('<html>Bad gateway'), {}, 'UNAVAILABLE', /status 502/],
  [400, xml('RequestTimeout'), {}, 'UNAVAILABLE', /RequestTimeout/],
  [400, xml('BadDigest'), {}, 'UNAVAILABLE', /BadDigest/],
  [400, xml('InvalidStorageClass'), {}, 'CONFIG', /refused to read k \(InvalidStorageClass\)/],
  [403, xml('AccessDenied', '').subarray(0, 60), {}, 'CONFIG', /status 403/],
] as const)('%i %s is told', (status, body, headers, code, message) => {
  const error = refused(status, body, { ...headers })
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) })
  expect(error.next).toMatch(/^[A-Z][^.]+\.?/)
  expect(isAgentError(error)).toBe(true)
})

it('a server that asks for fewer requests says for how long', () => {
  const wait = (status: number, code: string, headers: Record<string, string> = {}): number | undefined | string => {
    const error = refused(status, xml(code), headers)
    return error instanceof BusyError ? error.afterMs : 'not busy'
  }
  expect(wait(503, 'SlowDown')).toBeUndefined()
  expect(wait(503, 'SlowDown', { 'retry-after': '7' })).toBe(7000)
  expect(wait(429, 'Anything', { 'retry-after': 'Thu, 26 Nov 2026 22:00:30 GMT' })).toBe(30_000)
  expect(wait(503, 'ServiceUnavailable', { 'retry-after': 'soon' })).toBeUndefined()
  expect(wait(500, 'InternalError')).toBe('not busy')
})

it('secrets that a server repeats are in no message', () => {
  const error = refused(
    403,
    Buffer.from('<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><StringToSign>AWS4 SECRET</StringToSign></Error>'),
  )
  expect(JSON.stringify([error.message, error.next, String(error.cause)])).not.toContain('SECRET')
})
