import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { goString, goTime } from './go-json.ts'
import { goQuote, goUnquote } from './go-quote.ts'

describe('text as Go writes it', () => {
  it('escapes what encoding/json escapes, and nothing else', () => {
    expect(goString('<a href="x">&\u2028\u2029\u007f')).toBe('"\\u003ca href=\\"x\\"\\u003e\\u0026\\u2028\\u2029\u007f"')
    expect(goString('\b\f\n\r\t\u0001\u001f')).toBe('"\\u0008\\u000c\\n\\r\\t\\u0001\\u001f"')
    expect(goString('a\\b \\\\f ü 𝄞')).toBe('"a\\\\b \\\\\\\\f ü 𝄞"')
    expect(goString('\ud800')).toBe('"\ufffd"')
  })

  it('quotes names as strconv.Quote does', () => {
    expect(goQuote('plain name.vmdk')).toBe('plain name.vmdk')
    expect(goQuote('"\\\u0007\b\f\n\r\t\v')).toBe('\\"\\\\\\a\\b\\f\\n\\r\\t\\v')
    expect(goQuote('\u0001\u007f\u0085\u00a0\u00ad\u200b\u2028\u{e000}\u{e0001}')).toBe(
      '\\x01\\x7f\\u0085\\u00a0\\u00ad\\u200b\\u2028\\ue000\\U000e0001',
    )
    expect(goQuote('ünï € 𝄞 日本')).toBe('ünï € 𝄞 日本')
  })

  it('unquotes what it quoted', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        expect(goUnquote(goQuote(text))).toBe(text.toWellFormed())
        expect(JSON.parse(goString(text))).toBe(text.toWellFormed())
      }),
    )
    expect(goUnquote('\\xc3\\xbc\\374'.slice(0, 8))).toBe('ü')
    expect(goUnquote('\\377')).toBe('\ufffd')
  })

  it('refuses text that Go would not unquote', () => {
    for (const bad of ['\\', '\\q', '"', 'a\nb', '\\u12', '\\ud800', '\\U00110000', '\\777', '\\x4']) {
      expect(() => goUnquote(bad)).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
    }
  })

  it('writes times without trailing zeros and refuses what is no time', () => {
    expect(goTime('2026-11-22T10:00:00.120Z')).toBe('2026-11-22T10:00:00.12Z')
    expect(goTime('2026-11-22T10:00:00.000000000+01:00')).toBe('2026-11-22T10:00:00+01:00')
    expect(goTime('2026-11-22T10:00:00.123456789+00:00')).toBe('2026-11-22T10:00:00.123456789Z')
    for (const bad of ['', '2026-11-22', '2026-13-22T10:00:00Z', '2026-11-22 10:00:00Z', '2026-11-22T10:00:00']) {
      expect(() => goTime(bad)).toThrow(expect.objectContaining({ code: 'USAGE' }))
    }
  })
})
