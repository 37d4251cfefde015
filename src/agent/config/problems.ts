import type { z } from 'zod'
import { closest } from './closest.ts'
import type { ConfigProblem } from './problem.ts'
import { keysAt } from './schema-keys.ts'

export type Path = readonly (string | number)[]

/** Something wrong at a place of the file, before the place is looked up. */
export type Found = {
  readonly path: Path
  readonly message: string
  readonly meant?: string | undefined
  readonly key?: boolean | undefined
}

/** A file as it was written, and where in it what stands. */
export type ConfigText = {
  /** Plain data; `{}` of an empty file. Not checked. */
  readonly raw: unknown
  readonly problems: readonly ConfigProblem[]
  /** The place of a value, or of the nearest thing around it that is there. */
  placeOf(path: Path, key?: boolean): { readonly line: number; readonly column: number }
  problem(found: Found): ConfigProblem
}

/** `raw` as what stands in `file`. */
export const textOf = (file: string, { raw, problems, placeOf }: Omit<ConfigText, 'problem'>): ConfigText => ({
  raw,
  problems,
  placeOf,
  problem: ({ path, message, meant, key }) => ({ file, ...placeOf(path, key), at: shown(trimmed(raw, path)), message, meant }),
})

/** A file in which nothing stands, or that is not there. */
export const emptyText = (file: string): ConfigText => textOf(file, { raw: {}, problems: [], placeOf: () => ({ line: 1, column: 1 }) })

/** What a schema finds in a text, all of it. */
export function schemaProblems(text: ConfigText, schema: z.ZodType, error: z.core.$ZodError): readonly ConfigProblem[] {
  return error.issues.flatMap((issue) => foundOf(issue, schema)).map((found) => text.problem(found))
}

function foundOf(issue: z.core.$ZodIssue, schema: z.ZodType, before: Path = []): readonly Found[] {
  const path = [...before, ...issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step))]
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(schema, path)
      return issue.keys.map((key) => ({ path: [...path, key], message: 'there is no such key', meant: closest(key, known), key: true }))
    }
    case 'invalid_value': {
      const known = issue.values.filter((value) => typeof value === 'string')
      const message = issue.message.startsWith('Invalid option') ? `it is not one of ${known.join(', ')}` : told(issue)
      return [{ path, message, meant: typeof issue.input === 'string' ? closest(issue.input, known) : undefined }]
    }
    case 'invalid_union': {
      const option = bestOption(issue.errors)
      return option === undefined ? [{ path, message: told(issue) }] : option.flatMap((inner) => foundOf(inner, schema, path))
    }
    case 'invalid_key':
      return [{ path, message: issue.issues[0]?.message ?? issue.message, key: true }]
    default:
      return [{ path, message: told(issue) }]
  }
}

/** The form that was meant: of which nothing but what is inside is wrong. */
const bestOption = (options: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] | undefined =>
  options.find(
    (issues) =>
      issues.length > 0 && issues.every(({ code, path }) => path.length > 0 && code !== 'unrecognized_keys' && code !== 'invalid_type'),
  )

function told({ code, input, message }: z.core.$ZodIssue): string {
  if (code === 'invalid_type' && input === undefined) return 'it is missing'
  const text = message.replace(/^Invalid input: (?=.)/u, '').replace(/[.]$/u, '')
  return /^(?:Too|Unrecognized|Invalid) /u.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text
}

/** Without the index that a single value got on its way through the schema. */
function trimmed(raw: unknown, path: Path): Path {
  const last = path.at(-1)
  if (typeof last !== 'number') return path
  const parent = path.slice(0, -1).reduce<unknown>((value, step) => (value as Record<string | number, unknown> | undefined)?.[step], raw)
  return Array.isArray(parent) ? path : path.slice(0, -1)
}

export const shown = (path: Path): string =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '')
