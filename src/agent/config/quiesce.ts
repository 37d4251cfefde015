import { z } from 'zod'
import { type QuiescePolicy, VSS_BACKUP_TYPES, VSS_CONTEXTS, type WindowsQuiesce } from '../../core/index.ts'
import { DEFAULT_FREEZE_LIMIT_MS } from '../../quiesce/index.ts'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { duration } from './quantity.ts'

/** How guests are brought to rest before their snapshot. */
export type QuiesceConfig = {
  readonly quiesce: QuiescePolicy
  /** A guest is frozen for so long at most, ms. */
  readonly freezeLimitMs: number
  /** What VSS of Windows guests is told; undefined = what the server tells it by itself. */
  readonly windowsQuiesce: WindowsQuiesce | undefined
}

export const quiescePolicy = z.enum(['require', 'try', 'none'])
const freezeLimit = duration(100, 4 * 3_600_000)

const context = z.enum(VSS_CONTEXTS)

export const quiesceKeys = {
  quiesce: quiescePolicy.optional(),
  freezeLimit: freezeLimit.optional(),
  windowsQuiesce: z
    .strictObject({
      context: context.optional(),
      backupType: z.enum(VSS_BACKUP_TYPES).optional(),
      bootableSystemState: z.boolean().optional(),
      partialFileSupport: z.boolean().optional(),
    })
    .optional(),
} as const

export function quiesceOf(file: FileOf<typeof quiesceKeys>, { flags, environment }: Given): QuiesceConfig {
  const given = parseFlag('--windows-quiesce', context, flags.windowsQuiesce ?? environment['VCB_WINDOWS_QUIESCE'])
  return {
    quiesce: parseFlag('--quiesce', quiescePolicy, flags.quiesce ?? environment['VCB_QUIESCE']) ?? file.quiesce ?? 'try',
    freezeLimitMs:
      parseFlag('--freeze-limit', freezeLimit, flags.freezeLimit ?? environment['VCB_FREEZE_LIMIT']) ??
      file.freezeLimit ??
      DEFAULT_FREEZE_LIMIT_MS,
    windowsQuiesce:
      given === undefined && file.windowsQuiesce === undefined
        ? undefined
        : Object.freeze({ ...file.windowsQuiesce, ...(given === undefined ? {} : { context: given }) }),
  }
}
