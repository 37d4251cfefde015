import { z } from 'zod'
import type { QuiescePolicy } from '../../core/index.ts'
import { DEFAULT_FREEZE_LIMIT_MS } from '../../quiesce/index.ts'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { duration } from './quantity.ts'

/** How guests are brought to rest before their snapshot. */
export type QuiesceConfig = {
  readonly quiesce: QuiescePolicy
  /** A guest is frozen for so long at most, ms. */
  readonly freezeLimitMs: number
}

const policy = z.enum(['require', 'try', 'none'])
const freezeLimit = duration(100, 4 * 3_600_000)

export const quiesceKeys = { quiesce: policy.optional(), freezeLimit: freezeLimit.optional() } as const

export function quiesceOf(file: FileOf<typeof quiesceKeys>, { flags, environment }: Given): QuiesceConfig {
  return {
    quiesce: parseFlag('--quiesce', policy, flags.quiesce ?? environment['VCB_QUIESCE']) ?? file.quiesce ?? 'try',
    freezeLimitMs:
      parseFlag('--freeze-limit', freezeLimit, flags.freezeLimit ?? environment['VCB_FREEZE_LIMIT']) ??
      file.freezeLimit ??
      DEFAULT_FREEZE_LIMIT_MS,
  }
}
