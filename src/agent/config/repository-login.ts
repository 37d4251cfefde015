import { z } from 'zod'
import { parsePin } from '../../vsphere/index.ts'
import type { Given } from './given.ts'
import { readBy } from './list-of.ts'
import { type RepositoryS3, repositoryS3Of, repositoryS3Schema } from './repository-s3.ts'
import { fingerprintSchema } from './ssh.ts'
import type { SecretSource } from './secret-source.ts'

/** How the server of a repository is logged in to. A part is undefined where the file does not have it: then it is as for the stock programs. */
export type RepositoryLogin = {
  readonly ssh?: RepositorySsh | undefined
  readonly rest?: RepositoryRest | undefined
  readonly s3?: RepositoryS3 | undefined
}

/** Of an SFTP server. Paths are absolute. */
export type RepositorySsh = {
  readonly keyFile: string | undefined
  readonly passphrase: SecretSource
  readonly password: SecretSource
  readonly fingerprints: readonly string[]
  readonly knownHosts: string | undefined
}

/** Of a REST server. `caFile` is absolute, `pin` normalised. */
export type RepositoryRest = {
  readonly user: string | undefined
  readonly password: SecretSource
  readonly caFile: string | undefined
  readonly pin: string | undefined
}

/** Beside `url` and the password, of `repository` and of each of `repositories`. */
export const repositoryLoginKeys = {
  ssh: z
    .strictObject({
      keyFile: z.string().optional(),
      passphraseFile: z.string().optional(),
      passphraseEnv: z.string().optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      hostKey: z.union([fingerprintSchema, z.array(fingerprintSchema).min(1)]).optional(),
      knownHosts: z.string().optional(),
    })
    .optional(),
  rest: z
    .strictObject({
      user: z.string().min(1).optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      caFile: z.string().optional(),
      thumbprint: readBy(parsePin).optional(),
    })
    .optional(),
  s3: repositoryS3Schema.optional(),
} as const

type File = z.output<z.ZodObject<typeof repositoryLoginKeys>>

export function repositoryLoginOf({ ssh, rest, s3 }: File, given: Pick<Given, 'environment' | 'local'>): RepositoryLogin {
  const { environment, local } = given
  const path = (value: string | undefined): string | undefined => (value === undefined || value === '-' ? value : local(value))
  const secret = (inFile: string | undefined, variable: string | undefined): SecretSource =>
    variable === undefined ? { file: path(inFile) } : { env: variable, value: environment[variable] }
  return {
    ...(ssh === undefined
      ? {}
      : {
          ssh: Object.freeze({
            keyFile: path(ssh.keyFile),
            passphrase: secret(ssh.passphraseFile, ssh.passphraseEnv),
            password: secret(ssh.passwordFile, ssh.passwordEnv),
            fingerprints: ssh.hostKey === undefined ? [] : typeof ssh.hostKey === 'string' ? [ssh.hostKey] : ssh.hostKey,
            knownHosts: path(ssh.knownHosts),
          }),
        }),
    ...(rest === undefined
      ? {}
      : {
          rest: Object.freeze({
            user: rest.user,
            password: secret(rest.passwordFile, rest.passwordEnv),
            caFile: path(rest.caFile),
            pin: rest.thumbprint,
          }),
        }),
    ...(s3 === undefined ? {} : { s3: repositoryS3Of(s3, given) }),
  }
}
