import { dirname } from 'node:path'
import { isAgentError } from '../core/index.ts'
import { createDuePlanner } from '../schedule/index.ts'
import { type AgentConfig, configOf, inspectConfig } from './config/config.ts'
import type { ConfigFlags } from './config/flags.ts'
import { type Environment, givenOver } from './config/given.ts'
import type { ConfigProblem } from './config/problem.ts'
import { inOrder } from './config/read-file.ts'
import { programProblems } from './config/stage-programs.ts'
import { fileProblem, secretProblems } from './config/secret-files.ts'

export type ConfigCheck = {
  readonly file: string
  readonly problems: readonly ConfigProblem[]
  /** Undefined when the file or what lies over it cannot be understood. */
  readonly config: AgentConfig | undefined
}

/**
 * Everything that can be said of the configuration without asking vCenter or a repository: what the file says wrongly, flags and variables that are
 * wrong, schedules that name no moment, secrets that are not there or open to others, programs that are not fit to be run. Changes nothing. CONFIG when a file was named and is missing.
 */
export async function checkConfig(flags: ConfigFlags, environment: Environment): Promise<ConfigCheck> {
  const { path, text, problems, data } = await inspectConfig(flags, environment)
  const given = givenOver(flags, environment, dirname(path))
  const secrets = (await secretProblems(text.raw, given)).map((found) => text.problem(found))
  const elsewhere = (message: string): ConfigProblem => ({
    file: path,
    line: undefined,
    column: undefined,
    at: '',
    message,
    meant: undefined,
  })
  const programs = (await programProblems(text.raw)).map((found) => text.problem(found))
  const found = [...problems, ...secrets, ...programs]
  if (data === undefined) return { file: path, problems: inOrder(found), config: undefined }
  try {
    const config = configOf(data, given)
    // Whatever the schema let pass must compile as the agent compiles it.
    for (const [index, { name, schedule }] of config.jobs.entries()) {
      try {
        createDuePlanner(name, schedule)
      } catch (error) {
        if (!isAgentError(error, 'USAGE')) throw error
        found.push(text.problem({ path: ['jobs', index], message: `${error.message} ${error.next}` }))
      }
    }
    const overFile = [
      ['the vSphere password', flags.passwordFile ?? environment['VCB_PASSWORD_FILE']],
      ['the repository password', flags.repoPasswordFile ?? environment['VCB_REPO_PASSWORD_FILE']],
    ] as const
    for (const [what, secret] of overFile) {
      const problem = secret === undefined || secret === '-' ? undefined : await fileProblem(secret)
      if (problem !== undefined) found.push(elsewhere(`${what}: ${problem}`))
    }
    return { file: path, problems: inOrder(found), config }
  } catch (error) {
    if (!isAgentError(error, 'USAGE', 'CONFIG')) throw error
    return { file: path, problems: inOrder([...found, elsewhere(`${error.message} ${error.next}`)]), config: undefined }
  }
}
