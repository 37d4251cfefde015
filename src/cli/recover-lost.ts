import { AgentError, systemClock, toAgentError } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import type { CommandFlags } from './options.ts'
import type { ExitStatus } from './program.ts'

/** `vcb recover --journal-lost`: a new journal in the place of a damaged one, then the release of what carries our marks in vSphere. */
export async function recoverLostJournal(io: CliIo, flags: CommandFlags, status: ExitStatus): Promise<void> {
  const [{ withAgent }, { loadConfig, recoverLost, replaceJournal }] = await Promise.all([
    import('./session.ts'),
    import('../agent/index.ts'),
  ])
  const { stateDirectory, sharedState } = await loadConfig(flags, io.environment)
  if (sharedState !== undefined) {
    throw new AgentError(
      'USAGE',
      `The journal is in the database ${sharedState.address.shown}, which is not replaced by one of its proxies.`,
      {
        next: 'Restore that database, or make an empty one, and run "vcb recover"; "vcb orphans" finds what no journal knows.',
      },
    )
  }
  const setAside = await replaceJournal(stateDirectory, systemClock)
  await withAgent(io, flags, async ({ agent, output }) => {
    output.note(setAside.length === 0 ? 'A new journal was made.' : `A new journal was made; the old one is now ${setAside.join(', ')}.`)
    try {
      const removed = (await recoverLost(agent)).map(({ orphan, result, reason }) => ({
        kind: orphan.what.kind,
        name: orphan.name,
        path: orphan.path,
        claim: orphan.claim,
        result,
        reason,
      }))
      if (removed.some(({ result }) => result === 'kept')) status.exit = new AgentError('PARTIAL', '').exit
      output.result({ setAside, removed }, () => {
        if (removed.length === 0) return 'Nothing in vSphere carries a mark of this installation.'
        return removed
          .map(({ kind, name, path, result, reason }) => {
            return `${kind} ${printable(name)} of ${printable(path)}: ${result}${reason === undefined ? '' : `, ${printable(reason)}`}`
          })
          .join('\n')
      })
    } catch (error) {
      const cause = toAgentError(error)
      throw new AgentError(
        cause.code,
        `A new journal was made, but vSphere could not be searched for what the old one knew: ${cause.message}`,
        {
          subject: cause.subject,
          next: 'Once the cause is gone, run "vcb orphans --remove", which does the same search.',
          cause,
        },
      )
    }
  })
}
