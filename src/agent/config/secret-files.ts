import { access, constants, stat } from 'node:fs/promises'
import { fromErrno, isMissing } from '../../core/index.ts'
import { type Given, isForeignCredential } from './given.ts'
import type { Found, Path } from './problems.ts'

/** Keys that name a file with a secret, and a variable with one, wherever they stand. */
const SECRET_FILE = /^(?:password|passphrase|key|secret|url)File$/u
const SECRET_VARIABLE = /^(?:password|passphrase|secret|url)Env$/u
/** Permission bits of those who are not the owner. */
const OTHERS = 0o077
const PERMISSIONS = 0o777

type Named = { readonly path: Path; readonly key: string; readonly value: string }

/** Secrets that the file names and that are not to be had, or to be had by everybody. Reads no secret. */
export async function secretProblems(
  raw: unknown,
  { environment, local }: Pick<Given, 'environment' | 'local'>,
): Promise<readonly Found[]> {
  const problems: Found[] = []
  for (const { path, key, value } of secretsIn(raw)) {
    const message = SECRET_VARIABLE.test(key)
      ? (environment[value] ?? '') === ''
        ? `the environment variable ${value} is empty`
        : undefined
      : value === '-'
        ? undefined
        : await fileProblem(local(value), environment['CREDENTIALS_DIRECTORY'])
    if (message !== undefined) problems.push({ path, message })
  }
  return problems
}

/** Undefined when the file can be read by us and by nobody else. What systemd keeps in `credentials` is seen to by systemd, with an access list; of a unit's from outside it nothing can be said. */
export async function fileProblem(path: string, credentials?: string): Promise<string | undefined> {
  if (isForeignCredential(path)) return undefined
  try {
    await access(path, constants.R_OK)
    const found = await stat(path)
    if (!found.isFile()) return `${path} is not a file`
    if (found.size === 0) return `${path} is empty`
    const mode = found.mode & PERMISSIONS
    return (mode & OTHERS) === 0 || (credentials !== undefined && path.startsWith(`${credentials}/`))
      ? undefined
      : `${path} can be read or changed by others than its owner (mode ${mode.toString(8)}); chmod 600 it`
  } catch (error) {
    if (isMissing(error)) return `the file ${path} does not exist`
    const refused = fromErrno(error, path)
    if (refused === undefined) throw error
    return refused.message.replace(/[.]$/u, '')
  }
}

function secretsIn(value: unknown, path: Path = []): readonly Named[] {
  if (Array.isArray(value)) return value.flatMap((each, index) => secretsIn(each, [...path, index]))
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, each]: [string, unknown]) => {
    const here = [...path, key]
    const names = SECRET_FILE.test(key) || SECRET_VARIABLE.test(key)
    return names && typeof each === 'string' ? [{ path: here, key, value: each }] : secretsIn(each, here)
  })
}
