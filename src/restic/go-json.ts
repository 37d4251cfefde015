import { AgentError } from '../core/index.ts'

/**
 * Text as Go's `encoding/json` writes it with its default settings, byte for byte: `<`, `>`, `&`, U+2028 and U+2029 escaped, other
 * control characters as \u00XX but for \n, \r and \t. Tree ids are digests of this text.
 */
export function goString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(ESCAPED, (character) => {
    if (character === '\\b') return '\\u0008'
    if (character === '\\f') return '\\u000c'
    return character.startsWith('\\') ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}
// The first branch keeps escape pairs together, so that the b of an escaped backslash followed by b is not taken for a backspace.
const ESCAPED = /\\.|[<>&\u2028\u2029]/gu

const RFC3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/u

/** An RFC 3339 time as Go writes it (RFC3339Nano: no trailing zeros in the fraction, UTC as Z). USAGE for anything else. */
export function goTime(time: string): string {
  const match = RFC3339.exec(time)
  if (match === null || Number.isNaN(Date.parse(time))) {
    throw new AgentError('USAGE', `The time ${JSON.stringify(time)} is not an RFC 3339 date and time.`)
  }
  const fraction = (match[2] ?? '').replace(/0+$/u, '')
  const zone = match[3] === '+00:00' || match[3] === '-00:00' ? 'Z' : match[3]
  return `${match[1]}${fraction === '' ? '' : `.${fraction}`}${zone}`
}
