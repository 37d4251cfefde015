import { AgentError, isAgentError } from '../../core/index.ts'
import { BusyError } from '../tries.ts'
import type { BucketAddress } from './address.ts'
import { readXmlAnswer } from './xml-answer.ts'

/** What a server said when it refused: its own code and sentence, empty where it had no body (HEAD). */
export type Refusal = {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly region: string | undefined
  readonly headers: Readonly<Record<string, string>>
}

/** Answers for which everybody waits a while. */
const BUSY = new Set([
  'SlowDown',
  'ServiceUnavailable',
  'Throttling',
  'ThrottlingException',
  'RequestLimitExceeded',
  'TooManyRequests',
  'Busy',
])
/** Passes by itself; the server's own matter, or a request that was damaged on its way. */
const PASSES = new Set([
  'InternalError',
  'RequestTimeout',
  'OperationAborted',
  'IncompleteBody',
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'InvalidDigest',
])
const KEYS = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'ExpiredToken',
  'TokenRefreshRequired',
  'InvalidSecurity',
])
const ELSEWHERE = new Set([
  'PermanentRedirect',
  'TemporaryRedirect',
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'IncorrectEndpoint',
])
const FULL = new Set(['QuotaExceeded', 'InsufficientStorage', 'XMinioStorageFull', 'EntityTooLarge', 'StorageQuotaExceeded'])

/** Reads a refusal; an answer that is no XML has an empty code. */
export function readRefusal(status: number, headers: Readonly<Record<string, string>>, body: Uint8Array, from: string): Refusal {
  let error = { code: '', message: '', region: undefined as string | undefined }
  if (body.length > 0) {
    try {
      const root = readXmlAnswer(body, from, 'Error')
      error = { code: root.string('Code') ?? '', message: root.string('Message') ?? '', region: root.string('Region') }
    } catch (problem) {
      // Of a proxy between, perhaps: its status says what can be said.
      if (!isAgentError(problem)) throw problem
    }
  }
  return { status, headers, ...error, region: headers['x-amz-bucket-region'] ?? error.region }
}

export type RefusalContext = Pick<BucketAddress, 'bucket' | 'region'> & {
  readonly host: string
  /** What was to be done: `read data/ab/…`. */
  readonly what: string
  readonly now: Date
}

/** One sentence what happened and one what to do, for each way in which a server refuses. */
export function refusalError(refusal: Refusal, context: RefusalContext): AgentError {
  const { status, code, region } = refusal
  const { host, bucket, what } = context
  const said = code === '' ? `status ${status}` : code
  const cause = new Error(`${said}: ${refusal.message.slice(0, 500)}`)
  const error = (
    kind: 'AUTH' | 'CONFIG' | 'NOT_FOUND' | 'CONFLICT' | 'UNAVAILABLE' | 'CAPACITY',
    message: string,
    next: string,
  ): AgentError => new AgentError(kind, message, { subject: `${host}/${bucket}`, next, cause })
  if (code === 'RequestTimeTooSkewed') {
    const theirs = Date.parse(refusal.headers['date'] ?? '')
    const apart = Number.isNaN(theirs) ? 'more than 15 minutes' : `${Math.round(Math.abs(theirs - context.now.getTime()) / 1000)} s`
    return error(
      'CONFIG',
      `The clocks of this machine and of ${host} are ${apart} apart.`,
      'Set the clock right on both (NTP): S3 refuses what is more than 15 minutes off.',
    )
  }
  if (code === 'NoSuchBucket')
    return error(
      'NOT_FOUND',
      `There is no bucket ${bucket} on ${host}.`,
      'Make the bucket, or correct its name in the address of the repository.',
    )
  if (ELSEWHERE.has(code) || status === 301 || status === 307) {
    const where =
      region === undefined || region === context.region ? `not in ${context.region}` : `in the region ${region}, not in ${context.region}`
    return error(
      'CONFIG',
      `The bucket ${bucket} lies ${where}.`,
      'Write its region as s3.region of the repository into vcb.yaml, or set AWS_REGION, and use the endpoint of that region.',
    )
  }
  if (KEYS.has(code))
    return error(
      'AUTH',
      `${host} does not accept the key pair (${said}).`,
      'Check the access key, its secret, and the session token, which may have expired.',
    )
  if (BUSY.has(code) || status === 429 || status === 503)
    return new BusyError(`${host} asks for fewer requests (${said}).`, retryAfter(refusal.headers, context.now), `${host}/${bucket}`)
  if (FULL.has(code) || status === 507)
    return error('CAPACITY', `${host} has no room for more in the bucket ${bucket} (${said}).`, 'Free space there, or raise the quota.')
  if (code === 'ObjectLocked' || /object.{0,20}(?:lock|retention|WORM)/iu.test(refusal.message))
    return error(
      'CONFLICT',
      `${host} keeps what is locked in the bucket ${bucket}: it did not ${what}.`,
      'Wait until its retention has ended.',
    )
  if (PASSES.has(code) || (status >= 500 && status !== 501) || status === 408)
    return error(
      'UNAVAILABLE',
      `${host} could not ${what} (${said}).`,
      'Run the command again; if it stays so, look at the state of the server.',
    )
  if (code === 'AccessDenied' || status === 403 || status === 401)
    // As everywhere where a login is good and a right is missing: what cannot lock is read without, what removes is not asked again.
    return error(
      'CONFIG',
      `The key pair may not ${what} in the bucket ${bucket} of ${host} (${said}).`,
      'Give it the rights that docs/repositories.md lists.',
    )
  return error('CONFIG', `${host} refused to ${what} (${said}).`, 'Check the address, the bucket and the settings of the repository.')
}

function retryAfter(headers: Readonly<Record<string, string>>, now: Date): number | undefined {
  const text = headers['retry-after']
  if (text === undefined) return undefined
  const ms = /^\d{1,9}$/u.test(text) ? Number(text) * 1000 : Date.parse(text) - now.getTime()
  return Number.isNaN(ms) || ms < 0 ? undefined : ms
}
