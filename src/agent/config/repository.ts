import { isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { type FileOf, type Given, localIf } from './given.ts'
import { type RepositoryPrune, repositoryPrune } from './prune.ts'
import { type RepositoryLogin, repositoryLoginKeys, repositoryLoginOf } from './repository-login.ts'
import { type SecretSource, secretSource } from './secret-source.ts'

/** Where restore points go. */
export type RepositoryConfig = {
  readonly repository: RepositoryLogin & {
    readonly url: string | undefined
    readonly password: SecretSource
    /** As the file has it; `pruneRuleOf` says what that comes to. */
    readonly prune?: RepositoryPrune | undefined
  }
}

export const repositoryKeys = {
  repository: z
    .strictObject({
      url: z.string().optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      prune: repositoryPrune.optional(),
      ...repositoryLoginKeys,
    })
    .optional(),
} as const

export function repositoryOf({ repository: file }: FileOf<typeof repositoryKeys>, given: Given): RepositoryConfig {
  const { flags, environment, base } = given
  return {
    repository: Object.freeze({
      url: flags.repo ?? environment['VCB_REPO'] ?? localRepository(file?.url, base),
      password: secretSource(
        flags.repoPasswordFile,
        environment,
        'VCB_REPO_PASSWORD',
        localIf(given, file?.passwordFile),
        file?.passwordEnv,
      ),
      prune: file?.prune,
      ...repositoryLoginOf(file ?? {}, given),
    }),
  }
}

/** Of a place on this machine, a relative path begins at the directory of the file; the other kinds are left as they are. */
export function localRepository(url: string | undefined, base: string): string | undefined {
  if (url === undefined) return undefined
  const [, prefix = '', path = ''] = /^((?:restic|tar|dir|vcb):)?(.*)$/su.exec(url) ?? []
  return path === '-' || isAbsolute(path) || OTHER_KIND.test(path) ? url : `${prefix}${resolve(base, path)}`
}

/** `borg:`, `command:`, `s3:`: a single letter before the colon is no kind. */
const OTHER_KIND = /^[a-z][a-z0-9+-]{1,15}:/u
