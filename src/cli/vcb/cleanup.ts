import { keptOf } from '../../agent/index.ts'
import { AgentError } from '../../core/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool } from './tool.ts'

/** `vcbCleanup`: releases what runs of dead processes left behind. */
export const vcbCleanup: Tool = {
  name: 'vcbCleanup',
  flags: { ...LOGIN_FLAGS, y: 'switch' },
  help: `Usage: vcbCleanup [-h HOST] [-u USER] [-L LEVEL] -y

Releases what processes that have ended left behind: snapshots, locks, half-written exports. Whatever a living process holds, and every finished export, is left alone.
-y is needed: nothing is asked.
${LOGIN_HELP}`,
  run: async ({ flags, withAgent, io }) => {
    if (!flags.values.has('y') || flags.rest.length > 0) throw usage('vcbCleanup', 'vcbCleanup asks nothing, so it needs -y.')
    return withAgent(async ({ agent, output }) => {
      const kept = keptOf(await agent.recover())
      for (const { kind, claim, reason } of kept) output.note(`${kind} ${claim} is still held: ${printable(reason ?? 'no reason given')}`)
      return kept.length === 0 ? 0 : new AgentError(io.signal.aborted ? 'CANCELED' : 'PARTIAL', '').exit
    })
  },
}
