import { AgentError } from '../core/index.ts'

/** A restic repository in a bucket; `prefix` without slashes at its ends, empty = the bucket itself. */
export type S3Place = {
  readonly kind: 's3'
  /** `https://HOST[:PORT]`, or `http://…` where that was written. */
  readonly endpoint: string
  readonly bucket: string
  readonly prefix: string
}

/** In the forms that restic takes: `s3:https://HOST:PORT/BUCKET/PREFIX`, `s3:HOST/BUCKET/PREFIX`, `s3://HOST/BUCKET/PREFIX`. CONFIG. */
export function parseS3Place(text: string): S3Place {
  const rest = text.slice('s3:'.length)
  // As restic has it: what is written as a URL is percent-encoded, the short form is not.
  const isUrl = /^https?:\/\//u.test(rest)
  const short = rest.replace(/^\/\//u, '')
  const [host = '', ...names] = isUrl ? [] : short.split('/')
  const url = URL.parse(isUrl ? rest : `https://${host}`)
  if (url !== null && (url.username !== '' || url.password !== '')) {
    throw new AgentError('CONFIG', 'The address of the s3 repository holds a key pair.', {
      next: 'Take it out, and give it by file or environment (docs/repositories.md).',
    })
  }
  const up = /\/(?:[.]|%2e){2}(?:\/|$)/iu.test(rest)
  if (url === null || url.hostname === '' || url.search !== '' || url.hash !== '' || (!isUrl && url.pathname !== '/') || up)
    throw notS3(text)
  const [bucket = '', ...prefix] = (isUrl ? url.pathname.split('/').map((name) => decode(name, text)) : names).filter(
    (name) => name !== '' && name !== '.',
  )
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/u.test(bucket) || text.includes('\0')) throw notS3(text)
  return { kind: 's3', endpoint: url.origin, bucket, prefix: prefix.join('/') }
}

export function formatS3Place({ endpoint, bucket, prefix }: S3Place): string {
  return `s3:${endpoint}/${bucket}${prefix === '' ? '' : `/${prefix.split('/').map(encodeURIComponent).join('/')}`}`
}

function decode(name: string, whole: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    throw notS3(whole)
  }
}

const notS3 = (text: string): AgentError =>
  new AgentError('CONFIG', `${JSON.stringify(text.slice(0, 200))} names no bucket of an S3 server.`, {
    next: 'Write s3:https://HOST:PORT/BUCKET/PREFIX, or s3:s3.amazonaws.com/BUCKET/PREFIX.',
  })
