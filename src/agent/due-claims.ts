import type { Due } from '../schedule/index.ts'

/**
 * Who of several agents runs what is due. One agent alone (`soleAgent`) runs everything; where several work on one state, each asks here before it begins, and
 * exactly one gets the answer yes.
 */
export interface DueClaims {
  /**
   * May this agent begin it now? Asked once for each run, when there is a place for it. False: another one has it, or has had it; it is asked again while it
   * is still due. A yes holds until `settle`, or until this agent is dead. Errors: UNAVAILABLE, and nothing is begun.
   */
  take(due: Due): Promise<boolean>
  /** `ran`: there was a run, whatever it came to, and its record is in the history. Otherwise it was not begun after all, and anybody may take it. Idempotent. */
  settle(due: Due, ran: boolean): Promise<void>
}

export const soleAgent: DueClaims = Object.freeze({
  take: async () => true,
  settle: async () => undefined,
})
