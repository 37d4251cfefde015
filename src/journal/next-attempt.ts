import type { JournaledClaim } from './journal.ts'

/** The pause after the first failed attempt to release a claim, doubled after each, up to the longest. ms */
const FIRST_PAUSE = 60_000
const LONGEST_PAUSE = 60 * 60_000

/**
 * When a kept claim is tried again by itself; undefined when it has not been tried yet. When the wall clock was set back since the last attempt
 * nobody knows how long that was ago, so it is due now.
 */
export function nextAttempt(claim: Pick<JournaledClaim, 'attempts' | 'keptAt'>, now: Date): Date | undefined {
  if (claim.keptAt === undefined || claim.attempts === 0) return undefined
  const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(claim.attempts - 1, 10))
  return claim.keptAt > now ? now : new Date(claim.keptAt.getTime() + pause)
}
