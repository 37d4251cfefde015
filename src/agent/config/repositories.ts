import { z } from 'zod'
import { parseProviderUrl } from '../../provider/index.ts'
import { type FileOf, type Given, localIf } from './given.ts'
import { checkedBy } from './list-of.ts'
import { repositoryPrune } from './prune.ts'
import { repositoryCheck } from './repository-check.ts'
import { repositoryLoginKeys, repositoryLoginOf } from './repository-login.ts'
import { localRepository, type RepositoryConfig } from './repository.ts'

/** A place for restore points that jobs name. */
export type NamedRepository = RepositoryConfig['repository'] & {
  readonly name: string
  readonly url: string
  /** As the file says it; `checkRuleOf` reads it. */
  readonly check?: z.output<typeof repositoryCheck> | undefined
}

/** Names of files, variables and messages. */
export const jobName = z
  .string()
  .regex(/^[A-Za-z0-9][\w.-]{0,63}$/u, 'a name is letters, digits, _, . and -, at most 64, and begins with a letter or digit')

export const repositoriesKeys = {
  repositories: z
    .record(
      jobName,
      z.strictObject({
        url: checkedBy(parseProviderUrl),
        passwordFile: z.string().optional(),
        passwordEnv: z.string().optional(),
        prune: repositoryPrune.optional(),
        check: repositoryCheck.optional(),
        ...repositoryLoginKeys,
      }),
    )
    .optional(),
} as const

/** What the section `repository` (or a flag) names is the one called `default`. */
export const DEFAULT_REPOSITORY = 'default'

export function repositoriesOf(
  { repositories: file }: FileOf<typeof repositoriesKeys>,
  given: Given,
  { repository: general }: RepositoryConfig,
): { readonly repositories: readonly NamedRepository[] } {
  const named = Object.entries(file ?? {}).map(
    ([name, { url, passwordFile, passwordEnv, prune, check, ...login }]): NamedRepository =>
      Object.freeze({
        name,
        url: localRepository(url, given.base) ?? url,
        password:
          passwordEnv === undefined ? { file: localIf(given, passwordFile) } : { env: passwordEnv, value: given.environment[passwordEnv] },
        prune,
        ...repositoryLoginOf(login, given),
        check,
      }),
  )
  const { url } = general
  const isNamed = url === undefined || named.some(({ name }) => name === DEFAULT_REPOSITORY)
  return { repositories: Object.freeze(isNamed ? named : [Object.freeze({ ...general, url, name: DEFAULT_REPOSITORY }), ...named]) }
}
