import { isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { type FileOf, type Given, localIf } from './given.ts'
import { type SecretSource, secretSource } from './secret-source.ts'

/** Where restore points go. */
export type RepositoryConfig = { readonly repository: { readonly url: string | undefined; readonly password: SecretSource } }

export const repositoryKeys = {
  repository: z
    .strictObject({ url: z.string().optional(), passwordFile: z.string().optional(), passwordEnv: z.string().optional() })
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
    }),
  }
}

/** Its relative path begins at the directory of the file. */
export function localRepository(url: string | undefined, base: string): string | undefined {
  if (url === undefined) return undefined
  const match = /^(restic|tar|dir):(.*)$/s.exec(url)
  const [prefix, path] = match === null ? ['', url] : [`${match[1]}:`, match[2] ?? '']
  return path === '-' || isAbsolute(path) ? url : `${prefix}${resolve(base, path)}`
}
