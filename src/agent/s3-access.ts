import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError, fromErrno, isMissing, Secret } from '../core/index.ts'
import type { S3Access, S3Place } from '../provider/index.ts'
import { readProfile, regionOfHost, type S3Credentials } from '../restic/index.ts'
import type { Environment } from './config/given.ts'
import type { RepositoryS3 } from './config/repository-s3.ts'
import { readSecret, type SecretSource } from './config/secret-source.ts'

/** Who asks, and what stands in the environment of the process. */
export type S3User = { readonly home: string; readonly environment: Environment }

const DEFAULT_REGION = 'us-east-1'

/**
 * Key pair and settings of a bucket: of the entry where it has any, else of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, else of
 * the credentials file of the AWS command line. Secrets are read when the first request is signed. A credentials file is read anew for
 * each request, so that whoever renews keys in it is heard.
 */
export function s3Access(place: S3Place, s3: RepositoryS3 | undefined, writtenIn: string, { home, environment }: S3User): S3Access {
  let pair: Promise<S3Credentials> | undefined
  const fromFile = s3?.profile !== undefined || s3?.credentialsFile !== undefined
  const read = (): Promise<S3Credentials> => {
    if (s3?.accessKeyId !== undefined) return (pair ??= writtenPair(s3.accessKeyId, s3))
    const [id, secret, token] = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'].map((name) => environment[name] ?? '')
    if (!fromFile && id !== undefined && id !== '' && secret !== undefined && secret !== '') {
      const sessionToken = token === undefined || token === '' ? undefined : new Secret(token)
      return (pair ??= Promise.resolve({ accessKeyId: id, secretAccessKey: new Secret(secret), sessionToken }))
    }
    const path = s3?.credentialsFile ?? environment['AWS_SHARED_CREDENTIALS_FILE'] ?? join(home, '.aws', 'credentials')
    return profilePair(path, s3?.profile ?? environment['AWS_PROFILE'] ?? 'default', { fromFile, place, writtenIn })
  }
  const { caFile } = s3 ?? {}
  return {
    region:
      s3?.region ??
      regionOfHost(new URL(place.endpoint).hostname) ??
      environment['AWS_REGION'] ??
      environment['AWS_DEFAULT_REGION'] ??
      DEFAULT_REGION,
    lookup: s3?.bucketLookup ?? 'auto',
    credentials: read,
    ca: caFile === undefined ? undefined : () => readText(caFile),
    storageClass: s3?.storageClass,
    objectLock: s3?.objectLock,
  }
}

const isGiven = (source: SecretSource): boolean => source.file !== undefined || source.env !== undefined

async function writtenPair(accessKeyId: string, { secretAccessKey, sessionToken }: RepositoryS3): Promise<S3Credentials> {
  return {
    accessKeyId,
    secretAccessKey: await readSecret(secretAccessKey, `secret of the S3 access key ${accessKeyId}`, 's3 secretAccessKeyFile'),
    ...(isGiven(sessionToken) ? { sessionToken: await readSecret(sessionToken, 'S3 session token', 's3 sessionTokenFile') } : {}),
  }
}

type Asked = { readonly fromFile: boolean; readonly place: S3Place; readonly writtenIn: string }

async function profilePair(path: string, profile: string, { fromFile, place, writtenIn }: Asked): Promise<S3Credentials> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error) && !fromFile) {
      throw new AgentError('CONFIG', `There is no key pair for ${place.endpoint}/${place.bucket}.`, {
        subject: place.bucket,
        next: `Write accessKeyId and secretAccessKeyFile into ${writtenIn} of vcb.yaml, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`,
        cause: error,
      })
    }
    throw fromErrno(error, path) ?? error
  }
  return readProfile(text, profile, path)
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
