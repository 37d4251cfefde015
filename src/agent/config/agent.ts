import { z } from 'zod'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { duration } from './quantity.ts'

/** How long backups that run may go on when the agent is told to end, ms. */
const GRACE_MS = 5 * 60_000

/** How `vcb agent` goes about its work. */
export type AgentRunConfig = {
  /** From the signal that ends the agent to the moment running backups are canceled, ms. */
  readonly graceMs: number
}

const grace = duration(0, 24 * 3_600_000)

export const agentKeys = {
  agent: z.strictObject({ grace: grace.optional() }).optional(),
} as const

export function agentOf({ agent: file }: FileOf<typeof agentKeys>, { flags }: Given): { readonly agent: AgentRunConfig } {
  return { agent: Object.freeze({ graceMs: parseFlag('--grace', grace, flags.grace) ?? file?.grace ?? GRACE_MS }) }
}
