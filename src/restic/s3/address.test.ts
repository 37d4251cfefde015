import { describe, expect, it } from 'vitest'
import { escapeKey, originOf, regionOfHost } from './address.ts'
import { readProfile } from './credentials.ts'
import { createSigner } from './signer.ts'
import { Secret } from '../../core/index.ts'

const at = (endpoint: string, bucket: string, region = 'us-east-1', lookup: 'auto' | 'dns' | 'path' = 'auto') => {
  const { origin, before, host } = originOf({ endpoint, bucket, region, lookup })
  return [origin, host, before]
}

describe('where a bucket is', () => {
  it('by host name on AWS, in the path elsewhere, or as it is said', () => {
    expect(at('https://s3.amazonaws.com', 'backups')).toEqual(['https://backups.s3.amazonaws.com', 'backups.s3.amazonaws.com', '/'])
    expect(at('https://s3.amazonaws.com', 'backups', 'eu-west-1')[1]).toBe('backups.s3.eu-west-1.amazonaws.com')
    // A certificate for *.s3.amazonaws.com does not hold for names with dots.
    expect(at('https://s3.amazonaws.com', 'my.backups')).toEqual(['https://s3.amazonaws.com', 's3.amazonaws.com', '/my.backups/'])
    expect(at('http://127.0.0.1:9000', 'backups')).toEqual(['http://127.0.0.1:9000', '127.0.0.1:9000', '/backups/'])
    expect(at('https://ceph.example:443', 'b', 'us-east-1', 'dns')).toEqual(['https://b.ceph.example', 'b.ceph.example', '/'])
    expect(at('https://s3.amazonaws.com', 'backups', 'us-east-1', 'path')[2]).toBe('/backups/')
  })

  it('the region is in the name of an AWS endpoint', () => {
    expect(regionOfHost('s3.eu-central-1.amazonaws.com')).toBe('eu-central-1')
    expect(regionOfHost('s3-us-gov-west-1.amazonaws.com')).toBe('us-gov-west-1')
    expect(regionOfHost('s3.dualstack.ap-south-1.amazonaws.com')).toBe('ap-south-1')
    for (const host of ['s3.amazonaws.com', 'ceph.example', 's3.eu-central-1.example.com']) expect(regionOfHost(host)).toBeUndefined()
  })

  it('keys are percent-encoded but for their slashes', () => {
    expect(escapeKey("dé pôt/a+b*(1)'!~%")).toBe('d%C3%A9%20p%C3%B4t/a%2Bb%2A%281%29%27%21~%25')
  })

  it('requests are signed as in AWS’s own example', async () => {
    // "Signature Calculations for the Authorization Header", example GET Object of the Amazon S3 API reference.
    const secretAccessKey = new Secret('wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY')
    const sign = await createSigner('us-east-1', async () => ({ accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey }))
    const headers = await sign(
      {
        method: 'GET',
        protocol: 'https:',
        hostname: 'examplebucket.s3.amazonaws.com',
        port: undefined,
        path: '/test.txt',
        query: {},
        headers: { host: 'examplebucket.s3.amazonaws.com', range: 'bytes=0-9' },
        bodySha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      },
      new Date('2013-05-24T00:00:00Z'),
    )
    expect(headers['authorization']).toBe(
      'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    )
  })
})

describe('a profile of a credentials file', () => {
  const TEXT = `# mine
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=SECRET=1
; comment
[ work ]
  region = eu-west-1
AWS_ACCESS_KEY_ID=AKWORK
aws_secret_access_key = S2
aws_session_token = T2

[profile sso]
sso_session = x
`
  it('is read, its secrets kept as such', () => {
    const { accessKeyId, secretAccessKey, sessionToken } = readProfile(TEXT, 'default', '/c')
    expect([accessKeyId, secretAccessKey.reveal(), sessionToken]).toEqual(['AKDEFAULT', 'SECRET=1', undefined])
    expect(readProfile(TEXT, 'work', '/c').sessionToken?.reveal()).toBe('T2')
    expect(JSON.stringify(readProfile(TEXT, 'work', '/c'))).not.toContain('S2')
  })

  it('that is missing or has no keys is told', () => {
    expect(() => readProfile(TEXT, 'nobody', '/c')).toThrow(/no profile nobody/)
    expect(() => readProfile(TEXT, 'sso', '/c')).toThrow(/holds no key pair/)
  })
})
