import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { z } from 'zod'
import { AgentError, fromErrno, isMissing } from '../../core/index.ts'
import type { ConfigFlags } from './flags.ts'
import type { Environment } from './given.ts'
import { type ConfigProblem, formatProblem } from './problem.ts'
import { type ConfigText, emptyText, type Found, schemaProblems } from './problems.ts'

export type ReadOptions = {
  /** CONFIG when it is missing. */
  readonly required: boolean
  /** What no schema sees: names that are used and not there. */
  readonly check?: ((raw: unknown) => readonly Found[]) | undefined
}

/** A file as it was read: `data` when nothing was wrong with it. */
export type ReadConfig<T> = { readonly text: ConfigText; readonly problems: readonly ConfigProblem[]; readonly data: T | undefined }

/** A YAML file, checked, with all that is wrong; an empty one, and a missing one that is not `required`, are as `{}`. CONFIG when it is missing. */
export async function inspectConfigFile<T>(path: string, schema: z.ZodType<T>, { required, check }: ReadOptions): Promise<ReadConfig<T>> {
  const text = await readConfigText({ path, required })
  if (text.problems.length > 0) return { text, problems: text.problems, data: undefined }
  // A parser made to measure pays for itself by the hundredth file.
  const parsed = schema.safeParse(text.raw, { reportInput: true, jitless: true })
  const found = (check?.(text.raw) ?? []).map((each) => text.problem(each))
  const problems = inOrder([...(parsed.success ? [] : schemaProblems(text, schema, parsed.error)), ...found])
  return { text, problems, data: problems.length === 0 && parsed.success ? parsed.data : undefined }
}

/** `required`: it was named, and is wrong when it is missing. */
export type ConfigPlace = { readonly path: string; readonly required: boolean }

/** `vcb.yaml` of --config, of VCB_CONFIG, or of this directory. */
export function configPlace(flags: ConfigFlags, environment: Environment): ConfigPlace {
  const named = flags.config ?? environment['VCB_CONFIG']
  return { path: resolve(named ?? 'vcb.yaml'), required: named !== undefined }
}

/** Read, and not checked but for YAML. CONFIG when it is missing. */
export async function readConfigText({ path, required }: ConfigPlace): Promise<ConfigText> {
  const text = await textOf(path, required)
  if (text === '') return emptyText(path)
  const { readText } = await import('./yaml-text.ts')
  return readText(path, text)
}

/** In one sentence, the first of them; there may be hundreds. */
export function configError(path: string, problems: readonly ConfigProblem[]): AgentError {
  const told = problems.slice(0, TOLD).map((problem) => formatProblem(problem).slice(path.length + 1))
  const more = problems.length > TOLD ? `; and ${problems.length - TOLD} more` : ''
  return new AgentError('CONFIG', `The configuration file ${path} is wrong: ${told.join('; ')}${more}.`, {
    subject: path,
    next: 'Correct it; "vcb config check" lists everything that is wrong, one a line.',
  })
}

const TOLD = 10

async function textOf(path: string, required: boolean): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error) && !required) return ''
    if (isMissing(error)) throw new AgentError('CONFIG', `The configuration file ${path} does not exist.`, { subject: path, cause: error })
    throw fromErrno(error, path) ?? error
  }
}

/** By their places, those of no place first. */
export const inOrder = (problems: readonly ConfigProblem[]): readonly ConfigProblem[] =>
  problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
