import { readFile } from 'node:fs/promises'
import { parseDocument } from 'yaml'
import type { z } from 'zod'
import { AgentError, fromErrno, isMissing } from '../../core/index.ts'

/** A YAML file, checked; an empty one, and a missing one that is not `required`, are as `{}`. CONFIG with the place in the file. */
export async function readConfigFile<T>(path: string, schema: z.ZodType<T>, options: { readonly required: boolean }): Promise<T> {
  const document = parseDocument(await textOf(path, options.required))
  const problem = document.errors[0]
  if (problem !== undefined)
    throw new AgentError('CONFIG', `The configuration file ${path} is not valid YAML: ${problem.message}`, { subject: path })
  const parsed = schema.safeParse(document.toJS() ?? {})
  if (!parsed.success) {
    throw new AgentError('CONFIG', `The configuration file ${path} is wrong: ${describeIssues(parsed.error)}.`, { subject: path })
  }
  return parsed.data
}

async function textOf(path: string, required: boolean): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error) && !required) return ''
    if (isMissing(error)) throw new AgentError('CONFIG', `The configuration file ${path} does not exist.`, { subject: path, cause: error })
    throw fromErrno(error, path) ?? error
  }
}

/** `vcenter.url: expected string; datastores: …`, in one line. */
const describeIssues = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''}${issue.message}`).join('; ')
