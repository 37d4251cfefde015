import { isAbsolute, resolve } from 'node:path'
import type { z } from 'zod'
import { AgentError } from '../../core/index.ts'
import type { ConfigFlags } from './flags.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** What lies over the file: flags first, then the environment. */
export type Given = {
  readonly flags: ConfigFlags
  readonly environment: Environment
  /** The directory of the file, which its relative paths begin at. */
  readonly base: string
  /** A path of the file, absolute. */
  readonly local: (path: string) => string
}

/** `base` is the directory of the configuration file. */
export const givenOver = (flags: ConfigFlags, environment: Environment, base: string): Given => ({
  flags,
  environment,
  base,
  local: (path) => (isAbsolute(path) ? path : resolve(base, path)),
})

/** A path that may be absent. */
export const localIf = ({ local }: Pick<Given, 'local'>, path: string | undefined): string | undefined =>
  path === undefined ? undefined : local(path)

/** One noun of `vcb.yaml`: its keys at the top of the file, and what becomes of them with what lies over the file. */
export type FileOf<Keys extends z.ZodRawShape> = z.output<z.ZodObject<Keys>>

/** The value of a flag or of its variable, checked. USAGE naming the flag. */
export function parseFlag<T>(flag: string, schema: z.ZodType<T, unknown>, value: unknown): T | undefined {
  if (value === undefined) return undefined
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new AgentError('USAGE', `The value of ${flag} is wrong: ${parsed.error.issues[0]?.message ?? 'not accepted'}.`)
  return parsed.data
}
