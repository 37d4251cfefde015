import { z } from 'zod'
import { type FileOf, type Given, localIf } from './given.ts'
import { type SecretSource, secretSource } from './secret-source.ts'

/** Which vCenter or ESXi, who logs in, and what vouches for its certificate. */
export type VcenterConfig = {
  readonly vcenter: {
    readonly url: string | undefined
    readonly user: string | undefined
    readonly password: SecretSource
    readonly thumbprint: string | undefined
    readonly caFile: string | undefined
  }
}

export const vcenterKeys = {
  vcenter: z
    .strictObject({
      url: z.string().optional(),
      user: z.string().optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      thumbprint: z.string().optional(),
      caFile: z.string().optional(),
    })
    .optional(),
} as const

export function vcenterOf({ vcenter: file }: FileOf<typeof vcenterKeys>, given: Given): VcenterConfig {
  const { flags, environment } = given
  return {
    vcenter: Object.freeze({
      url: flags.vcenter ?? environment['VCB_VCENTER'] ?? file?.url,
      user: flags.user ?? environment['VCB_USER'] ?? file?.user,
      password: secretSource(flags.passwordFile, environment, 'VCB_PASSWORD', localIf(given, file?.passwordFile), file?.passwordEnv),
      thumbprint: flags.thumbprint ?? environment['VCB_THUMBPRINT'] ?? file?.thumbprint,
      caFile: flags.caFile ?? environment['VCB_CA_FILE'] ?? localIf(given, file?.caFile),
    }),
  }
}
