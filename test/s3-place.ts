import { randomBytes } from 'node:crypto'
import { type Clock, Secret, silentLog, systemClock } from '../src/core/index.ts'
import { type RepositoryPlace, s3Backend, type S3BackendDeps } from '../src/restic/index.ts'
import { S3Client } from '../src/restic/s3/s3-client.ts'
import type { S3Server, S3User } from './s3-server.ts'

export const REGION = 'us-east-1'

const credentialsOf = (user: S3User) => async () => ({ accessKeyId: user.accessKeyId, secretAccessKey: new Secret(user.secretAccessKey) })

/** Raw requests of a user to a bucket, for what a repository itself never does. */
export const s3Client = (server: S3Server, bucket: string, user: S3User = server.owner): S3Client =>
  new S3Client({ endpoint: server.endpoint, bucket, region: REGION, lookup: 'path', clock: systemClock, credentials: credentialsOf(user) })

/** A new bucket of the owner; with Object Lock it has versions too. Returns its name. */
export async function makeBucket(
  server: S3Server,
  options: { readonly objectLock?: boolean; readonly name?: string } = {},
): Promise<string> {
  const bucket = options.name ?? `b${randomBytes(6).toString('hex')}`
  await using client = s3Client(server, bucket)
  const headers = options.objectLock === true ? { 'x-amz-bucket-object-lock-enabled': 'true' } : {}
  await client.send({ method: 'PUT', headers, what: 'make a bucket' })
  return bucket
}

/** Our backend on a bucket of the server. */
export function s3Place(server: S3Server, bucket: string, change: Partial<S3BackendDeps> = {}): RepositoryPlace {
  const { endpoint = server.endpoint, prefix = 'backups/repo' } = change
  return s3Backend({
    url: `s3:${endpoint}/${bucket}/${prefix}`,
    endpoint,
    bucket,
    prefix,
    region: REGION,
    lookup: 'path',
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    credentials: credentialsOf(server.owner),
    ...change,
  })
}

/** Environment and options with which stock restic opens the same repository. */
export function stockRestic(
  server: S3Server,
  bucket: string,
  user: S3User = server.owner,
): { readonly environment: Readonly<Record<string, string>>; readonly url: string } {
  const { accessKeyId, secretAccessKey } = user
  return {
    url: `s3:${server.endpoint}/${bucket}/backups/repo`,
    environment: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_DEFAULT_REGION: REGION },
  }
}

/** Pauses of a hundredth: what waits half a minute between tries takes a third of a second. */
export const hurriedClock: Clock = { ...systemClock, sleep: (ms, options) => systemClock.sleep(ms / 100, options) }
