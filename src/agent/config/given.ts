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

/** A directory that systemd gives to a unit, with a file for each LoadCredential=; systemd.exec(5). */
const CREDENTIALS = 'CREDENTIALS_DIRECTORY'
const CREDENTIAL = /^\$(?:CREDENTIALS_DIRECTORY|\{CREDENTIALS_DIRECTORY\})\//

/** `base` is the directory of the configuration file. A path may begin with `$CREDENTIALS_DIRECTORY/`; outside a unit it stays so, and whoever reads it says why. */
export const givenOver = (flags: ConfigFlags, environment: Environment, base: string): Given => ({
  flags,
  environment,
  base,
  local: (path) => {
    if (!CREDENTIAL.test(path)) return isAbsolute(path) ? path : resolve(base, path)
    const directory = environment[CREDENTIALS]
    return directory === undefined ? path : resolve(directory, path.replace(CREDENTIAL, ''))
  },
})

/** True for a path that names a credential of a unit, where this process is none. */
export const isForeignCredential = (path: string): boolean => CREDENTIAL.test(path)

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
