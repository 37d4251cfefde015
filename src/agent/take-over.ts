import { toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'

/** A running agent looks so often for what dead processes left. Milliseconds. With the 30 s after which a silent proxy is dead, all is released within a minute. */
const LOOK_MS = 10_000

/**
 * Releases what processes left that have died, of this proxy and of all that share its database, every LOOK_MS until disposed. Called once by `vcb agent`. One that
 * cannot be released now is tried again by the next look; nothing is thrown.
 */
export function takeOverDead(agent: Agent, lookMs = LOOK_MS): Disposable {
  return agent.clock.every(
    lookMs,
    async () => {
      await agent.recover()
    },
    (error) => agent.log.warn('a look for what dead processes left did not finish', { error: toAgentError(error).message }),
  )
}
