import { z } from 'zod'
import { type FileOf, type Given, localIf } from './given.ts'
import { duration } from './quantity.ts'

/** The VCB commands alone. */
export type VcbToolsConfig = {
  readonly vcbTools: {
    /** Their `-p PASSWORD` is accepted, although everybody on this machine can read it. */
    readonly passwordArgument: boolean
    /** A `config.js` to read. */
    readonly configJs: string | undefined
    /** Mounts of theirs end by themselves after so long, ms; 12 hours when not set. */
    readonly maxHoldMs: number
    /** And after so long without a read, ms; 0 = never; 30 minutes when not set. */
    readonly idleMs: number
    /** `vcbCleanup` ends every mount of theirs, the living ones included. */
    readonly cleanupMounts: boolean
  }
}

const MINUTE = 60_000
/** Nobody copies one VM for longer. ms */
const LONGEST = 30 * 24 * 60 * MINUTE

export const vcbToolsKeys = {
  vcbTools: z
    .strictObject({
      passwordArgument: z.boolean().optional(),
      configJs: z.string().optional(),
      maxHold: duration(1000, LONGEST).optional(),
      idle: duration(0, LONGEST).optional(),
      cleanupMounts: z.boolean().optional(),
    })
    .optional(),
} as const

export function vcbToolsOf({ vcbTools: file }: FileOf<typeof vcbToolsKeys>, given: Given): VcbToolsConfig {
  return {
    vcbTools: Object.freeze({
      passwordArgument: file?.passwordArgument ?? false,
      configJs: given.environment['VCB_CONFIG_JS'] ?? localIf(given, file?.configJs),
      maxHoldMs: file?.maxHold ?? 12 * 60 * MINUTE,
      idleMs: file?.idle ?? 30 * MINUTE,
      cleanupMounts: file?.cleanupMounts ?? false,
    }),
  }
}
