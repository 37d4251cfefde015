import { AgentError } from '../core/index.ts'
import { hasWildcard, unescape } from './pattern.ts'

/** What one term names. */
export type Term = {
  readonly kind: 'name' | 'glob' | 'folder' | 'tag' | 'uuid' | 'moref' | 'ip' | 'power'
  /** Ready to compare; of a glob the pattern, of a folder the path with a leading `/` and maybe wildcards. */
  readonly value: string
  /** True for a leading `!`. */
  readonly exclude: boolean
  /** As the user wrote it. */
  readonly source: string
}

const PREFIXES: Readonly<Record<string, Term['kind']>> = {
  name: 'name',
  folder: 'folder',
  tag: 'tag',
  uuid: 'uuid',
  moref: 'moref',
  ip: 'ip',
  power: 'power',
}

/**
 * Reads selection expressions: terms separated by commas or blanks, `\` before a character makes it literal.
 * Each expression of the list is read by itself, so a shell's quoting survives. USAGE for an empty or malformed expression.
 */
export function parseExpressions(expressions: readonly string[]): readonly Term[] {
  return expressions.flatMap((expression) => {
    const terms = splitTerms(expression).map(parseTerm)
    if (terms.length === 0) throw usage(expression, 'is empty')
    return terms
  })
}

/** Splits at commas and blanks; escapes stay in the terms. Quotation marks are the shell's business: here they are part of a name. */
function splitTerms(expression: string): string[] {
  const terms: string[] = []
  let term: string | undefined
  const characters = Array.from(expression)
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] ?? ''
    if (character === '\\') term = `${term ?? ''}\\${characters[++at] ?? '\\'}`
    else if (character === ',' || /\s/u.test(character)) {
      if (term !== undefined) terms.push(term)
      term = undefined
    } else term = (term ?? '') + character
  }
  if (term !== undefined) terms.push(term)
  return terms
}

function parseTerm(source: string): Term {
  const exclude = source.startsWith('!')
  const text = exclude ? source.slice(1) : source
  const prefix = /^([a-z]+):/i.exec(text)?.[1]?.toLowerCase() ?? ''
  const kind = Object.hasOwn(PREFIXES, prefix) ? PREFIXES[prefix] : undefined
  const rest = kind === undefined ? text : text.slice(prefix.length + 1)
  if (rest === '') throw usage(source, 'names nothing')
  return { ...meaning(kind, rest, source), exclude, source }
}

function meaning(kind: Term['kind'] | undefined, rest: string, source: string): Pick<Term, 'kind' | 'value'> {
  switch (kind) {
    case undefined:
      return hasWildcard(rest) ? { kind: 'glob', value: rest } : { kind: 'name', value: unescape(rest) }
    case 'folder':
      return { kind, value: `/${rest.replace(/^\/+/, '').replace(/\/+$/, '')}` }
    case 'uuid': {
      const uuid = parseUuid(unescape(rest))
      if (uuid === undefined) throw usage(source, 'is not a uuid')
      return { kind, value: uuid }
    }
    case 'power': {
      const states: Readonly<Record<string, string>> = { on: 'poweredOn', off: 'poweredOff', suspended: 'suspended' }
      const state = Object.hasOwn(states, rest.toLowerCase()) ? states[rest.toLowerCase()] : undefined
      if (state === undefined) throw usage(source, 'names no power state (on, off, suspended)')
      return { kind, value: state }
    }
    default:
      return { kind, value: unescape(rest) }
  }
}

/** Lower-case with dashes, from any usual way of writing a uuid: dashes, blanks or none. */
export function parseUuid(text: string): string | undefined {
  const hex = text.toLowerCase().replaceAll(/[\s-]/g, '')
  if (!/^[0-9a-f]{32}$/.test(hex)) return undefined
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

const usage = (source: string, what: string): AgentError =>
  new AgentError('USAGE', `The selection ${JSON.stringify(source)} ${what}.`, {
    subject: source,
    next: 'Write a VM name, a pattern like web*, or folder:, tag:, uuid:, moref:, ip:, power:; commas or blanks separate several.',
  })
