import { dirname } from 'node:path'
import { type AgentConfig, configOf, inspectConfig } from './config/config.ts'
import type { ConfigFlags } from './config/flags.ts'
import { type Environment, givenOver } from './config/given.ts'
import { JOB_SETTINGS } from './config/job-settings.ts'
import type { JobConfig } from './config/jobs.ts'
import type { ConfigText, Path } from './config/problems.ts'
import { configError } from './config/read-file.ts'
import { type Setting, SETTINGS } from './config/settings.ts'
import { namedJobs } from './named-jobs.ts'

/** Where a setting comes from. */
export type Origin =
  | { readonly from: 'default' }
  | { readonly from: 'flag'; readonly name: string }
  | { readonly from: 'environment'; readonly name: string }
  /** `section`: `jobDefaults`, or the general setting that a job leaves as it is. */
  | { readonly from: 'file'; readonly file: string; readonly line: number; readonly section?: string | undefined }

export type ExplainedSetting = {
  /** As vcb.yaml writes it. */
  readonly key: string
  /** In words; undefined when it is not set. Never a secret. */
  readonly value: string | undefined
  /** That which counts; of a setting that several places add to, all of them. */
  readonly origins: readonly Origin[]
}

export type ExplainedConfig = { readonly file: string; readonly job: string | undefined; readonly settings: readonly ExplainedSetting[] }

/** The settings in force and where each comes from; of one job, everything its runs go by. CONFIG for a wrong file, NOT_FOUND for a job there is not. */
export async function explainConfig(flags: ConfigFlags, environment: Environment, job?: string): Promise<ExplainedConfig> {
  const { path, text, data, problems } = await inspectConfig(flags, environment)
  if (data === undefined) throw configError(path, problems)
  const config = configOf(data, givenOver(flags, environment, dirname(path)))
  const explain = new Explanation(path, text, flags, environment)
  if (job === undefined) return { file: path, job, settings: SETTINGS.map((setting) => explain.general(setting, config)) }
  const [found] = namedJobs(config, [job])
  const settings = found === undefined ? [] : explain.job(found, config.jobs.indexOf(found), config)
  return { file: path, job, settings }
}

class Explanation {
  readonly #file: string
  readonly #text: ConfigText
  readonly #flags: ConfigFlags
  readonly #environment: Environment

  constructor(file: string, text: ConfigText, flags: ConfigFlags, environment: Environment) {
    this.#file = file
    this.#text = text
    this.#flags = flags
    this.#environment = environment
  }

  general(setting: Setting, config: AgentConfig): ExplainedSetting {
    const { keys, flag, variables = [], together } = setting
    const origins = [
      ...(flag !== undefined && isGiven(this.#flags[flag]) ? [{ from: 'flag', name: flagName(flag, this.#flags[flag]) } as const] : []),
      ...variables.filter((name) => this.#environment[name] !== undefined).map((name) => ({ from: 'environment', name }) as const),
      ...keys.flatMap((key) => this.#inFile(key.split('.'))),
    ]
    return { key: keys.at(-1) ?? '', value: setting.value(config), origins: counted(origins, together) }
  }

  job(job: JobConfig, index: number, config: AgentConfig): readonly ExplainedSetting[] {
    return JOB_SETTINGS.map(({ key, general, value }): ExplainedSetting => {
      const own = [...this.#inFile(['jobs', index, key]), ...this.#inFile(['jobDefaults', key], 'jobDefaults')]
      const left = general === undefined || own.length > 0 ? undefined : SETTINGS.find(({ keys }) => keys.includes(general))
      const from = left === undefined ? [] : this.general(left, config).origins
      const marked = from.map((origin) => (origin.from === 'file' ? { ...origin, section: `general ${general ?? ''}` } : origin))
      return { key, value: value(job, config), origins: counted([...own, ...marked]) }
    })
  }

  /** Empty when it does not stand there. */
  #inFile(path: Path, section?: string): readonly Origin[] {
    const value = path.reduce<unknown>(
      (at, step) => (at as Readonly<Record<string | number, unknown>> | null | undefined)?.[step],
      this.#text.raw,
    )
    return value === undefined ? [] : [{ from: 'file', file: this.#file, line: this.#text.placeOf(path, true).line, section }]
  }
}

/** The first counts, or all. */
function counted(origins: readonly Origin[], together = false): readonly Origin[] {
  if (origins.length === 0) return [{ from: 'default' }]
  return together ? origins : origins.slice(0, 1)
}

/** A flag `--no-…` is true where nobody wrote it. */
const isGiven = (value: ConfigFlags[keyof ConfigFlags]): boolean => value !== undefined && value !== true

const flagName = (flag: string, value: unknown): string =>
  `--${value === false ? 'no-' : ''}${flag === 'restoreTransport' ? 'transport' : flag.replaceAll(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`
