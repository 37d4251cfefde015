import { z } from 'zod'
import { AgentError } from '../../core/index.ts'
import type { MostUnused } from '../../provider/index.ts'
import { byteSize, duration, spaceAmount } from './quantity.ts'

const PIB = 2 ** 50

/** What a prune may leave that nobody needs: `5%` of the repository, `10GiB`, `unlimited`. */
export const mostUnused: z.ZodType<MostUnused, unknown> = z.union([z.literal('unlimited'), spaceAmount], {
  error: 'it is neither a share like 5%, an amount like 10GiB, nor unlimited',
})

/** How much a prune may write anew. */
export const mostRepacked = byteSize(0, PIB)

/** A value of a flag by its schema. USAGE naming the flag. */
function parsed<T>(flag: string, text: string, schema: z.ZodType<T, unknown>): T {
  const result = schema.safeParse(text)
  if (result.success) return result.data
  throw new AgentError('USAGE', `The value of ${flag} is wrong: ${result.error.issues[0]?.message ?? 'not accepted'}.`)
}

export const parseMostUnused = (flag: string, text: string): MostUnused => parsed(flag, text, mostUnused)
export const parseMostRepacked = (flag: string, text: string): number => parsed(flag, text, mostRepacked)

/** When and how the agent prunes a repository after a job's retention; undefined = it does not. */
export type PruneRule = {
  readonly everyMs: number
  readonly mostUnused: MostUnused
  readonly mostRepackedBytes: number
}

const HOUR_MS = 3_600_000
const DEFAULT_RULE: PruneRule = Object.freeze({ everyMs: 7 * 24 * HOUR_MS, mostUnused: { percent: 5 }, mostRepackedBytes: 50 * 2 ** 30 })

/** Beside the `url` of `repository` and of each of `repositories`. */
export const repositoryPrune = z.union(
  [
    z.literal('off'),
    z.strictObject({
      every: duration(HOUR_MS, 366 * 24 * HOUR_MS).optional(),
      maxUnused: mostUnused.optional(),
      maxRepackSize: mostRepacked.optional(),
    }),
  ],
  { error: 'it is off, or { every: 7d, maxUnused: 5%, maxRepackSize: 50GiB }' },
)

export type RepositoryPrune = z.output<typeof repositoryPrune>

/** Once a week, with 5 % unused and 50 GiB written anew at most: a limit, so that backups never wait for long. */
export function pruneRuleOf(prune: RepositoryPrune | undefined): PruneRule | undefined {
  if (prune === 'off') return undefined
  const { every = DEFAULT_RULE.everyMs, maxUnused = DEFAULT_RULE.mostUnused, maxRepackSize = DEFAULT_RULE.mostRepackedBytes } = prune ?? {}
  return Object.freeze({ everyMs: every, mostUnused: maxUnused, mostRepackedBytes: maxRepackSize })
}
