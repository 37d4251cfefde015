import { readFile } from 'node:fs/promises'
import { AgentError, fromErrno, isMissing, Secret } from '../../core/index.ts'
import { type Environment, isForeignCredential } from './given.ts'

/** Where a secret comes from. Never a value on a command line. */
export type SecretSource = { readonly file?: string | undefined; readonly env?: string | undefined; readonly value?: string | undefined }

/** By precedence: the flag's file, `VARIABLE_FILE`, `VARIABLE`, a variable or a file that vcb.yaml names. */
export function secretSource(
  flagFile: string | undefined,
  environment: Environment,
  variable: string,
  file: string | undefined,
  fileVariable: string | undefined,
): SecretSource {
  if (flagFile !== undefined) return { file: flagFile }
  const environmentFile = environment[`${variable}_FILE`]
  if (environmentFile !== undefined) return { file: environmentFile }
  if (environment[variable] !== undefined) return { env: variable, value: environment[variable] }
  if (fileVariable !== undefined) return { env: fileVariable, value: environment[fileVariable] }
  return { file }
}

/** The secret of a source: a file (`-` = first line of standard input) or an environment variable. Errors: CONFIG, USAGE. */
export async function readSecret(source: SecretSource, what: string, flag: string): Promise<Secret> {
  if (source.env !== undefined) {
    if (source.value === undefined || source.value === '') {
      throw new AgentError('CONFIG', `The environment variable ${source.env} for ${what} is empty.`, {
        next: `Set it, or use ${flag} FILE.`,
      })
    }
    return new Secret(source.value)
  }
  if (source.file === undefined) {
    throw new AgentError('USAGE', `No ${what} was given.`, {
      next: `Give ${flag} FILE (or - for standard input), or the variable named in "vcb help connection".`,
    })
  }
  const text = source.file === '-' ? await readStandardInput() : await readSecretFile(source.file, what)
  const secret = text.replace(/\r?\n[\s\S]*$/, '')
  if (secret === '')
    throw new AgentError('CONFIG', `${source.file === '-' ? 'Standard input' : source.file} holds no ${what}.`, { subject: source.file })
  return new Secret(secret)
}

const SECRET_LIMIT = 64 * 1024

async function readSecretFile(path: string, what: string): Promise<string> {
  if (isForeignCredential(path)) {
    throw new AgentError('CONFIG', `The ${what} is a credential of a unit of systemd (${path}), and this command does not run in it.`, {
      subject: path,
      next: 'Give it by its flag or variable, or have the agent do it: "vcb run", "vcb status" and the like ask the agent.',
    })
  }
  try {
    const text = await readFile(path, 'utf8')
    if (text.length > SECRET_LIMIT) throw new AgentError('CONFIG', `${path} is too large to hold the ${what}.`, { subject: path })
    return text
  } catch (error) {
    if (isMissing(error))
      throw new AgentError('CONFIG', `The file ${path} with the ${what} does not exist.`, { subject: path, cause: error })
    throw fromErrno(error, path) ?? error
  }
}

async function readStandardInput(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin) {
    text += String(chunk)
    if (text.includes('\n') || text.length > SECRET_LIMIT) break
  }
  return text
}
