import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../../core/index.ts'
import { MOST_XML_BYTES, readXmlAnswer } from './xml-answer.ts'

// As Ceph's gateway and AWS give it.
const LISTING = Buffer.from(
  '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a%2B</Prefix>' +
    '<MaxKeys>2</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>' +
    '<Contents><Key>a%2B/1</Key><ETag>&quot;x&quot;</ETag><Size>7</Size></Contents><Contents><Key>a%2B/é</Key><Size>8</Size></Contents></ListBucketResult>',
)
const read = (bytes: Uint8Array | string, root?: string): ReturnType<typeof readXmlAnswer> =>
  readXmlAnswer(Buffer.from(bytes), 'host', root)

describe('answers of S3', () => {
  it('are read by names without prefixes', () => {
    const root = read(LISTING, 'ListBucketResult')
    expect(root.string('NextContinuationToken')).toBe('t&1')
    expect(root.all('Contents').map((each) => [each.string('Key'), each.string('Size'), each.string('None.Such')])).toEqual([
      ['a%2B/1', '7', undefined],
      ['a%2B/é', '8', undefined],
    ])
    expect(read('<s:Error xmlns:s="urn:x"><s:Code><![CDATA[A<B]]></s:Code></s:Error>').string('Code')).toBe('A<B')
  })

  it('cut anywhere, are refused', () => {
    for (let length = 0; length < LISTING.length; length++) expect(() => read(LISTING.subarray(0, length))).toThrow(/not S3's/)
  })

  it.each([
    ['entities of their own', '<!DOCTYPE r [<!ENTITY x "yyyyyyyyyy">]><r>&x;</r>', /DOCTYPE/],
    ['a web page', '<!DOCTYPE html><html><body>Log in', /DOCTYPE/],
    ['unknown entities', '<r>&nbsp;</r>', /broken XML/],
    ['nesting', '<a>'.repeat(100), /too much/],
    ['many elements', `<a>${'<b/>'.repeat(200_001)}</a>`, /too much/],
    ['length', ' '.repeat(MOST_XML_BYTES + 1), /longer/],
    ['another root', '<Other/>', /"Other" instead of Root/],
    ['no UTF-8', Buffer.from([0x3c, 0x72, 0xff, 0x3e]), /not UTF-8/],
    ['nothing', '', /broken XML|empty/],
  ])('are refused for %s', (_what, bytes, message) => {
    expect(() => read(bytes, 'Root')).toThrow(message)
  })

  it('however damaged, are read or refused with UNAVAILABLE, and nothing else', () => {
    const damage = fc.record({
      at: fc.nat(LISTING.length - 1),
      value: fc.nat(255),
      drop: fc.nat(9),
      insert: fc.string({ unit: 'binary', maxLength: 5 }),
    })
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 6 }), (damages) => {
        let hurt = Buffer.from(LISTING)
        for (const { at, value, drop, insert } of damages) {
          if (at < hurt.length) hurt[at] = value
          hurt = Buffer.concat([hurt.subarray(0, at), Buffer.from(insert), hurt.subarray(at + drop)])
        }
        try {
          expect(read(hurt, 'ListBucketResult').name).toBe('ListBucketResult')
        } catch (error) {
          expect(isAgentError(error, 'UNAVAILABLE')).toBe(true)
        }
      }),
      { seed: 3, numRuns: 3000 },
    )
  })
})
