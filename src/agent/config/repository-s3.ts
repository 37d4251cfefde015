import { z } from 'zod'
import type { Given } from './given.ts'
import type { SecretSource } from './secret-source.ts'

/** How an S3 server is logged in to, and how files are kept there. Paths are absolute; what is undefined is as for the stock programs. */
export type RepositoryS3 = {
  readonly accessKeyId: string | undefined
  readonly secretAccessKey: SecretSource
  readonly sessionToken: SecretSource
  readonly credentialsFile: string | undefined
  readonly profile: string | undefined
  readonly region: string | undefined
  readonly bucketLookup: 'auto' | 'dns' | 'path'
  readonly caFile: string | undefined
  readonly storageClass: string | undefined
  readonly objectLock: { readonly mode: 'governance' | 'compliance'; readonly days: number } | undefined
}

export const repositoryS3Schema = z
  .strictObject({
    accessKeyId: z.string().min(1).optional(),
    secretAccessKeyFile: z.string().optional(),
    secretAccessKeyEnv: z.string().optional(),
    sessionTokenFile: z.string().optional(),
    sessionTokenEnv: z.string().optional(),
    credentialsFile: z.string().optional(),
    profile: z.string().min(1).optional(),
    region: z
      .string()
      .regex(/^[a-z0-9-]{1,64}$/u, 'a region is lower-case letters, digits and hyphens, like eu-central-1')
      .optional(),
    bucketLookup: z.enum(['auto', 'dns', 'path']).optional(),
    caFile: z.string().optional(),
    storageClass: z
      .string()
      .regex(/^[A-Z0-9_-]{1,40}$/u, 'a storage class is written in capital letters, like STANDARD_IA')
      .optional(),
    objectLock: z.strictObject({ mode: z.enum(['governance', 'compliance']), days: z.number().int().min(1).max(36_500) }).optional(),
  })
  .refine((s3) => (s3.accessKeyId === undefined) === (s3.secretAccessKeyFile === undefined && s3.secretAccessKeyEnv === undefined), {
    message: 'accessKeyId belongs with secretAccessKeyFile or secretAccessKeyEnv',
  })
  .refine((s3) => s3.accessKeyId === undefined || (s3.profile === undefined && s3.credentialsFile === undefined), {
    message: 'either accessKeyId or a profile, not both',
  })

export function repositoryS3Of(
  file: z.output<typeof repositoryS3Schema>,
  { environment, local }: Pick<Given, 'environment' | 'local'>,
): RepositoryS3 {
  const path = (value: string | undefined): string | undefined => (value === undefined || value === '-' ? value : local(value))
  const secret = (inFile: string | undefined, variable: string | undefined): SecretSource =>
    variable === undefined ? { file: path(inFile) } : { env: variable, value: environment[variable] }
  return Object.freeze({
    accessKeyId: file.accessKeyId,
    secretAccessKey: secret(file.secretAccessKeyFile, file.secretAccessKeyEnv),
    sessionToken: secret(file.sessionTokenFile, file.sessionTokenEnv),
    credentialsFile: path(file.credentialsFile),
    profile: file.profile,
    region: file.region,
    bucketLookup: file.bucketLookup ?? 'auto',
    caFile: path(file.caFile),
    storageClass: file.storageClass,
    objectLock: file.objectLock,
  })
}
