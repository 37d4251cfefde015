import { z } from 'zod'
import { AgentError } from '../../core/index.ts'
import type { MostUnused } from '../../provider/index.ts'
import { byteSize, spaceAmount } from './quantity.ts'

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
