import { AgentError } from '../../core/index.ts'

/**
 * The flags of one VCB command: whether each takes a value; a `bit` takes 0 or 1 and is 1 without either. A name of several letters (`cycleId`) is written with one dash all
 * the same.
 */
export type FlagSpec = Readonly<Record<string, 'switch' | 'value' | 'bit'>>

/** Flags of every VCB command that logs in. */
export const LOGIN_FLAGS = { h: 'value', u: 'value', p: 'value', L: 'value' } as const satisfies FlagSpec

/** What a command line said; of a flag given twice the last value. `rest` are the words that belong to no flag. */
export type ToolFlags = { readonly values: ReadonlyMap<string, string>; readonly rest: readonly string[] }

/**
 * Reads a command line as the VCB commands did: one dash, one letter, the value behind a blank or glued to it (`-s any:`, `-sany:`); switches may stand
 * together (`-yQ`). `--` ends the flags. USAGE for a flag the command does not have, and for a value that is missing.
 */
export function parseToolFlags(tool: string, spec: FlagSpec, argv: readonly string[]): ToolFlags {
  const values = new Map<string, string>()
  const rest: string[] = []
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? ''
    if (word === '--') {
      rest.push(...argv.slice(at + 1))
      break
    }
    if (!word.startsWith('-') || word === '-') {
      rest.push(word)
      continue
    }
    for (let left = word.slice(1); left !== ''; ) {
      const name = left.length > 1 && Object.hasOwn(spec, left) ? left : (left[0] ?? '')
      const kind = Object.hasOwn(spec, name) ? spec[name] : undefined
      left = left.slice(name.length)
      if (kind === undefined) throw usage(tool, `${tool} has no flag -${name}.`)
      if (kind === 'switch') {
        values.set(name, '')
        continue
      }
      if (kind === 'bit' && left === '' && !/^[01]$/.test(argv[at + 1] ?? '')) {
        values.set(name, '1')
        continue
      }
      const value = left === '' ? argv[++at] : left
      if (value === undefined) throw usage(tool, `The flag -${name} of ${tool} needs a value.`)
      values.set(name, value)
      left = ''
    }
  }
  return { values, rest }
}

export const usage = (tool: string, message: string): AgentError =>
  new AgentError('USAGE', message, { subject: tool, next: `Run "${tool} --help" to see what it accepts.` })
