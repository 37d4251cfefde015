import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { LOOKUP_METHODS, parseSearchSpecification } from './search-specification.ts'

describe('parseSearchSpecification', () => {
  it.each([
    ['any', { by: 'any' }],
    ['any:', { by: 'any' }],
    ['Any:', { by: 'any' }],
    ['ANY:*', { by: 'any' }],
    ['powerstate:on', { by: 'powerState', value: 'poweredOn' }],
    ['PowerState:OFF', { by: 'powerState', value: 'poweredOff' }],
    ['name:Web 01', { by: 'name', value: 'Web 01' }],
    ['NAME:a:b', { by: 'name', value: 'a:b' }],
    ['name:any', { by: 'name', value: 'any' }],
    ['name:web*', { by: 'name', value: 'web*' }],
    ['moref:vm-57', { by: 'moref', value: 'vm-57' }],
    ['moref:96', { by: 'moref', value: '96' }],
    ['uuid:421ED41C523A4b6d8e2f001122334455', { by: 'uuid', value: '421ed41c-523a-4b6d-8e2f-001122334455' }],
    ['ipaddr:web01.example.com', { by: 'ipaddr', value: 'web01.example.com' }],
    ['ipaddr:2001:db8::1', { by: 'ipaddr', value: '2001:db8::1' }],
  ])('%s', (text, expected) => {
    expect(parseSearchSpecification(text)).toEqual(expected)
  })

  it.each(['', 'web01', 'c:drive', 'name:', 'uuid:12', 'powerstate:maybe', 'powerstate:', 'any:web'])('refuses %j', (text) => {
    expect(() => parseSearchSpecification(text)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('takes the lookup method of the configuration where there is no prefix', () => {
    expect(parseSearchSpecification('c:drive', 'name')).toEqual({ by: 'name', value: 'c:drive' })
    expect(parseSearchSpecification('10.0.0.1', 'ipaddr')).toEqual({ by: 'ipaddr', value: '10.0.0.1' })
    expect(parseSearchSpecification('moref:7', 'ipaddr')).toEqual({ by: 'moref', value: '7' })
  })

  it('keeps any name as it stands, and says USAGE to all else', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }),
        fc.constantFrom(undefined, ...LOOKUP_METHODS),
        (text, lookup) => {
          expect(parseSearchSpecification(`name:${text}`)).toEqual({ by: 'name', value: text })
          try {
            parseSearchSpecification(text, lookup)
          } catch (error) {
            expect(isAgentError(error, 'USAGE')).toBe(true)
          }
        },
      ),
      { seed: 3, numRuns: 1000 },
    )
  })
})
