import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { parseExpressions, parseUuid } from './expression.ts'
import { globMatcher, hasWildcard, unescape } from './pattern.ts'

const terms = (...expressions: string[]): string[] =>
  parseExpressions(expressions).map(({ kind, value, exclude }) => `${exclude ? '!' : ''}${kind}=${value}`)

describe('parseExpressions', () => {
  it.each([
    ['web1', ['name=web1']],
    ['web*', ['glob=web*']],
    ['a, b  c,,d', ['name=a', 'name=b', 'name=c', 'name=d']],
    ['!web*', ['!glob=web*']],
    ['\\!odd', ['name=!odd']],
    ['a\\ b', ['name=a b']],
    ['it\'s,"a\\ b"', ["name=it's", 'name="a b"']],
    ['name:web*', ['name=web*']],
    ['name:power:on', ['name=power:on']],
    ['web\\*', ['name=web*']],
    ['folder:DC/vm/prod/', ['folder=/DC/vm/prod']],
    ['tag:gold', ['tag=gold']],
    ['POWER:On', ['power=poweredOn']],
    ['!power:suspended', ['!power=suspended']],
    ['moref:vm-57', ['moref=vm-57']],
    ['ip:2001:db8::1', ['ip=2001:db8::1']],
    ['c:drive', ['name=c:drive']],
    ['uuid:42 1E d4 1c 52 3a 4b 6d-8e 2f 00 11 22 33 44 55', ['uuid=421ed41c-523a-4b6d-8e2f-001122334455']],
  ])('%s', (expression, expected) => {
    const quoted = expression.startsWith('uuid:') ? expression.replaceAll(' ', '\\ ') : expression
    expect(terms(quoted)).toEqual(expected)
  })

  it.each(['', ' , ', '!', 'name:', 'power:maybe', 'uuid:12', '!folder:'])('refuses %j', (expression) => {
    expect(() => parseExpressions([expression])).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('reads every text as terms or USAGE, and finds any name that is escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }), (text) => {
        try {
          parseExpressions([text])
        } catch (error) {
          expect(isAgentError(error, 'USAGE')).toBe(true)
        }
        const escaped = Array.from(text, (character) => `\\${character}`).join('')
        expect(terms(`name:${escaped}`)).toEqual([`name=${text}`])
      }),
      { seed: 3, numRuns: 1000 },
    )
  })

  it('takes uuids in every usual way of writing', () => {
    const uuid = '421ed41c-523a-4b6d-8e2f-001122334455'
    for (const text of [uuid, uuid.toUpperCase(), uuid.replaceAll('-', '')]) expect(parseUuid(text)).toBe(uuid)
    expect(parseUuid(`${uuid}0`)).toBeUndefined()
  })
})

describe('globs', () => {
  it.each([
    ['web*', 'WEB-01', true],
    ['web?', 'web1', true],
    ['web?', 'web12', false],
    ['web[0-3]', 'web2', true],
    ['web[!0-3]', 'web2', false],
    ['web[z-a]', 'web-', true],
    ['a.b', 'axb', false],
    ['[', '[', true],
    ['a\\*', 'a*', true],
    ['a\\*', 'ab', false],
    ['*\n*', 'two\nlines', true],
    ['ü?', 'ü😀', true],
  ])('%j on %j: %s', (pattern, text, expected) => {
    expect(globMatcher(pattern)(text)).toBe(expected)
  })

  it('never throws, and matches the text itself when every character is escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 25 }), fc.string({ maxLength: 25 }), (pattern, text) => {
        expect(globMatcher(pattern)(text)).toBeTypeOf('boolean')
        const escaped = Array.from(pattern, (character) => `\\${character}`).join('')
        expect(globMatcher(escaped)(pattern)).toBe(true)
        expect(hasWildcard(escaped)).toBe(false)
        expect(unescape(escaped)).toBe(pattern)
      }),
      { seed: 5, numRuns: 1000 },
    )
  })
})
