import { AgentError } from '../../core/index.ts'

/** A value of LVM's text metadata. */
export type LvmValue = string | number | readonly LvmValue[] | LvmSection
export interface LvmSection {
  readonly [key: string]: LvmValue
}

const TOKEN = /\s+|#[^\n]*|"(?:[^"\\]|\\[^])*"|[{}[\]=,]|[^\s{}[\]=,"#]+/y
const DEEPEST = 8
const MOST_TOKENS = 2_000_000

/**
 * Parses the text metadata of a volume group (docs/formats/lvm.md). Sections have no prototype, so a key may be called anything. INTEGRITY where it is not
 * such a text.
 */
export function parseLvmText(text: string): LvmSection {
  const tokens = tokensOf(text)
  let at = 0
  const next = (): string => {
    const token = tokens[at++]
    if (token === undefined) throw damaged('it ends too early')
    return token
  }
  const value = (depth: number): LvmValue => {
    const token = next()
    if (token.startsWith('"')) return token.slice(1, -1).replace(/\\([^])/g, '$1')
    if (token !== '[') return /^-?\d+$/.test(token) ? Number(token) : token
    if (depth > DEEPEST) throw damaged('it is nested too deep')
    const list: LvmValue[] = []
    while (tokens[at] !== ']') {
      if (tokens[at] === ',') at++
      else list.push(value(depth + 1))
    }
    at++
    return list
  }
  const section = (depth: number): LvmSection => {
    if (depth > DEEPEST) throw damaged('it is nested too deep')
    const found: Record<string, LvmValue> = Object.create(null) as Record<string, LvmValue>
    while (at < tokens.length && tokens[at] !== '}') {
      const key = next()
      const sign = next()
      if (sign === '=') found[key] = value(depth)
      else if (sign === '{') {
        found[key] = section(depth + 1)
        if (next() !== '}') throw damaged(`the section ${key} does not end`)
      } else throw damaged(`${key} is followed by ${sign}`)
    }
    return found
  }
  const whole = section(0)
  if (at < tokens.length) throw damaged('it goes on behind its end')
  return whole
}

function tokensOf(text: string): string[] {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const token = TOKEN.exec(text)?.[0]
    if (token === undefined) throw damaged(`there is a quote without its end at ${at}`)
    if (!/^[\s#]/.test(token)) tokens.push(token)
    if (tokens.length > MOST_TOKENS) throw damaged('it is too long')
  }
  return tokens
}

const damaged = (why: string): AgentError => new AgentError('INTEGRITY', `The metadata of a volume group is damaged: ${why}.`)

export const sectionOf = (value: LvmValue | undefined): LvmSection | undefined =>
  typeof value === 'object' && !Array.isArray(value) ? (value as LvmSection) : undefined

/** A whole number from 0 to 2^53. */
export const countOf = (value: LvmValue | undefined): number | undefined =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined

export const textOf = (value: LvmValue | undefined): string | undefined => (typeof value === 'string' ? value : undefined)
export const listOf = (value: LvmValue | undefined): readonly LvmValue[] => (Array.isArray(value) ? (value as readonly LvmValue[]) : [])
