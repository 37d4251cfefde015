/** How a bucket is named in requests: in the path, or as a part of the host's name. `auto` = by host name on AWS and Alibaba, else in the path. */
export type BucketLookup = 'auto' | 'dns' | 'path'

/** Where a bucket is. */
export type BucketAddress = {
  /** `https://HOST[:PORT]` or `http://…`, without a path. */
  readonly endpoint: string
  readonly bucket: string
  readonly region: string
  readonly lookup: BucketLookup
}

const BY_NAME = /(?:\.amazonaws\.com(?:\.cn)?|\.aliyuncs\.com)$/u

/** The region that the name of an AWS endpoint holds: `s3.eu-central-1.amazonaws.com`. */
export function regionOfHost(host: string): string | undefined {
  return /^s3[.-](?:dualstack\.|fips\.)?([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com(?:\.cn)?$/u.exec(host)?.[1]
}

/** Protocol, host and what goes before a key in the path. AWS's global name is replaced by that of the region, which takes requests for it. */
export function originOf({ endpoint, bucket, region, lookup }: BucketAddress): {
  readonly origin: string
  readonly protocol: string
  readonly hostname: string
  readonly port: number | undefined
  readonly host: string
  readonly before: string
} {
  const { protocol, hostname, port } = new URL(endpoint)
  const server = hostname === 's3.amazonaws.com' && region !== 'us-east-1' ? `s3.${region}.amazonaws.com` : hostname
  const byName = lookup === 'dns' || (lookup === 'auto' && BY_NAME.test(server) && /^[a-z0-9][a-z0-9-]+[a-z0-9]$/u.test(bucket))
  const name = byName ? `${bucket}.${server}` : server
  const host = port === '' ? name : `${name}:${port}`
  return {
    origin: `${protocol}//${host}`,
    protocol,
    hostname: name,
    port: port === '' ? undefined : Number(port),
    host,
    before: byName ? '/' : `/${escapeName(bucket)}/`,
  }
}

/** Percent-encoded as Signature Version 4 wants it: everything but letters, digits and `-._~`. */
export const escapeName = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/gu, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)

export const escapeKey = (key: string): string => key.split('/').map(escapeName).join('/')
