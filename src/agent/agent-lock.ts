import { AgentError, type JobId } from '../core/index.ts'
import { type Journal, optional, type Processes } from '../journal/index.ts'

/** The kind of the job that an agent is for as long as it runs. */
export const AGENT_JOB = 'agent'

/** Which installation an agent is of: several share a database, each with a state directory of its own. */
export type AgentJobArgs = { readonly installation: string }

/**
 * Makes sure that this process's agent, whose job has begun, is the only one of its state directory: of several the one that began first stays. CONFLICT naming its
 * process.
 */
export async function assertSoleAgent(
  journal: Pick<Journal, 'unfinished'>,
  processes: Processes,
  own: JobId,
  { installation }: AgentJobArgs,
): Promise<void> {
  for (const { id, kind, args, owner } of await journal.unfinished()) {
    if (id === own) return
    if (kind !== AGENT_JOB || optional(args, 'installation') !== installation) continue
    if (owner === undefined || !(await processes.isAlive(owner))) continue
    throw new AgentError('CONFLICT', `An agent runs with this state directory already, as process ${owner.pid}.`, {
      next: 'End that one first, or name another state directory.',
      retry: 'never',
    })
  }
}
