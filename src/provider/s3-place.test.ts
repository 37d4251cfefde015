import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseProviderUrl, sameDestination } from './provider-url.ts'
import { formatResticPlace, parseResticPlace } from './restic-place.ts'

const s3 = (more: object = {}) => ({ kind: 's3', endpoint: 'https://s3.example', bucket: 'backups', prefix: '', ...more })

describe('a place in a bucket', () => {
  it.each([
    ['s3:https://s3.example/backups', s3()],
    ['s3:s3.example/backups/', s3()],
    ['s3://s3.example/backups', s3()],
    ['s3:http://127.0.0.1:9000/backups/vms//./x/', s3({ endpoint: 'http://127.0.0.1:9000', prefix: 'vms/x' })],
    ['s3:https://s3.example:443/backups/a%20b%25', s3({ prefix: 'a b%' })],
    ['s3:s3.example/backups/a%20b', s3({ prefix: 'a%20b' })],
    ['s3:s3.amazonaws.com/My_Old.Bucket/x', s3({ endpoint: 'https://s3.amazonaws.com', bucket: 'My_Old.Bucket', prefix: 'x' })],
    ['s3:https://[::1]:9000/backups', s3({ endpoint: 'https://[::1]:9000' })],
  ])('%s', (text, place) => {
    expect(parseResticPlace(text)).toEqual(place)
  })

  it.each([
    's3:',
    's3:s3.example',
    's3:https://s3.example/',
    's3:https://s3.example/b/../x/y',
    's3:https://s3.example/bb?x=1',
    's3:https://s3.example/%/x',
    's3:s3.example/ü/x',
    's3:s3.example/bb/a\0',
  ])('refuses %j', (text) => {
    expect(() => parseResticPlace(text)).toThrow(/names no bucket of an S3 server/)
  })

  it('refuses a key pair without repeating it', () => {
    for (const text of ['s3:https://AK:hush@s3.example/backups', 's3:AK:hush@s3.example/backups']) {
      expect(() => parseResticPlace(text)).toThrow(/^The address of the s3 repository holds a key pair\.$/)
    }
  })

  it('means the same again in the words it is shown in', () => {
    const name = fc.stringMatching(/^[a-z0-9 %+&=?#é*~-]{1,8}$/u)
    fc.assert(
      fc.property(fc.array(name, { maxLength: 4 }), fc.constantFrom('https://s3.example', 'http://127.0.0.1:9000'), (names, endpoint) => {
        const place = parseResticPlace(formatResticPlace({ kind: 's3', endpoint, bucket: 'backups', prefix: names.join('/') }))
        expect(place).toEqual(s3({ endpoint, prefix: names.join('/') }))
      }),
      { seed: 5, numRuns: 1000 },
    )
  })

  it('is one destination however it is written', () => {
    expect(parseProviderUrl('s3:s3.example/backups/')).toEqual({ scheme: 'restic', path: 's3:https://s3.example/backups' })
    expect(sameDestination('restic:s3:https://s3.example/backups', 's3:s3.example/backups')).toBe(true)
    expect(sameDestination('s3:http://s3.example/backups', 's3:s3.example/backups')).toBe(false)
  })
})
