/**
 * A glob over a name: `*` any run of characters, `?` one character, `[abc]`, `[a-z]`, `[!abc]` one of a set, `\` makes the next one literal.
 * Names are compared as vSphere compares them: without regard to case.
 */
export function globMatcher(pattern: string): (text: string) => boolean {
  const expression = new RegExp(`^${globSource(pattern)}$`, 'isu')
  return (text) => expression.test(text)
}

function globSource(pattern: string): string {
  const characters = Array.from(pattern)
  let source = ''
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] ?? ''
    if (character === '\\') source += escaped(characters[++at] ?? '\\')
    else if (character === '*') source += '.*'
    else if (character === '?') source += '.'
    else if (character === '[') {
      const end = characters.indexOf(']', at + 2)
      if (end < 0) source += escaped(character)
      else {
        source += setSource(characters.slice(at + 1, end))
        at = end
      }
    } else source += escaped(character)
  }
  return source.replaceAll(/(\.\*)+/g, '.*')
}

function setSource(members: readonly string[]): string {
  const negated = members[0] === '!' || members[0] === '^'
  const kept = negated ? members.slice(1) : members
  const body = kept.map((member, index) =>
    member === '-' && index > 0 && index < kept.length - 1 ? '-' : member.replace(/[\\\]^-]/, '\\$&'),
  )
  return `[${negated ? '^' : ''}${orderedRanges(body)}]`
}

/** `z-a` is no range; it is taken as its three characters. */
function orderedRanges(body: readonly string[]): string {
  let source = ''
  for (let at = 0; at < body.length; at++) {
    const [from, dash, to] = [body[at] ?? '', body[at + 1], body[at + 2]]
    if (dash === '-' && to !== undefined) {
      source += from <= to ? `${from}-${to}` : `${from}\\-${to}`
      at += 2
    } else source += from === '-' ? '\\-' : from
  }
  return source
}

const escaped = (character: string): string => character.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&')

/** Whether a pattern has anything to expand; `\` before a character takes its meaning away. */
export function hasWildcard(pattern: string): boolean {
  return /[*?[]/.test(pattern.replaceAll(/\\./gs, ''))
}

/** The text a pattern without wildcards means. */
export const unescape = (pattern: string): string => pattern.replaceAll(/\\(.)/gs, '$1')
