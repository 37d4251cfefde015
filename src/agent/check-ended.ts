import type { Abortable, Log } from '../core/index.ts'
import { toAgentError } from '../core/index.ts'
import type { FoundProblem } from '../history/index.ts'

/** A check of a repository by the agent that came to its end. */
export type CheckEnded = {
  /** Its name in the configuration, and its URL. */
  readonly repository: string
  readonly url: string
  /** ISO 8601. */
  readonly begunAt: string
  readonly endedAt: string
  readonly structure: boolean
  /** Parts of the data that were read. */
  readonly slices: number
  /** What this check found. */
  readonly found: readonly FoundProblem[]
  /** Everything that is known to be wrong now, what earlier checks found included. */
  readonly open: readonly FoundProblem[]
}

/** Follows the checks of an agent: notices, events. As `AfterRun`: one after another, and one that throws stops nobody. */
export interface AfterCheck {
  readonly name: string
  afterCheck(ended: CheckEnded, options: Abortable): Promise<void>
}

/** Tells all of them, one after another. Never fails. */
export async function tellCheckEnded(followers: readonly AfterCheck[], ended: CheckEnded, log: Log, options: Abortable): Promise<void> {
  for (const follower of followers) {
    try {
      await follower.afterCheck(ended, options)
    } catch (error) {
      log.error('what follows a check failed', { follower: follower.name, repository: ended.url, error: toAgentError(error).message })
    }
  }
}
