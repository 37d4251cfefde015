import { z } from 'zod'
import { type FileOf, type Given, localIf } from './given.ts'

/** The VCB commands alone. */
export type VcbToolsConfig = {
  readonly vcbTools: {
    /** Their `-p PASSWORD` is accepted, although everybody on this machine can read it. */
    readonly passwordArgument: boolean
    /** A `config.js` to read. */
    readonly configJs: string | undefined
  }
}

export const vcbToolsKeys = {
  vcbTools: z.strictObject({ passwordArgument: z.boolean().optional(), configJs: z.string().optional() }).optional(),
} as const

export function vcbToolsOf({ vcbTools: file }: FileOf<typeof vcbToolsKeys>, given: Given): VcbToolsConfig {
  return {
    vcbTools: Object.freeze({
      passwordArgument: file?.passwordArgument ?? false,
      configJs: given.environment['VCB_CONFIG_JS'] ?? localIf(given, file?.configJs),
    }),
  }
}
