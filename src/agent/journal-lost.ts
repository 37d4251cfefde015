import { join } from 'node:path'
import { AgentError, type Clock, createIds, isAgentError } from '../core/index.ts'
import { openSqliteJournal, systemProcesses } from '../journal/index.ts'
import { hasAgentId, openState, setStateAside } from '../state/index.ts'
import { STATE_FILE } from './open-state.ts'
import { holdersOf } from './state-holders.ts'

/**
 * Puts an empty journal in the place of one that cannot be used any more: the damaged file gets a dated name and is never deleted. The new names;
 * empty when the file was missing. What the lost journal knew is then found by `recoverLost`. Only called because the user said so.
 * Errors: CONFLICT (another vcb of this state directory runs), USAGE (the journal is sound), CONFIG (a newer vcb wrote it).
 */
export async function replaceJournal(stateDirectory: string, clock: Clock): Promise<readonly string[]> {
  const path = join(stateDirectory, STATE_FILE)
  await refuseOthers(stateDirectory)
  if (await isSound(path, await hasAgentId(stateDirectory), clock)) {
    throw new AgentError('USAGE', `The state database ${path} is not damaged; it was left as it is.`, {
      subject: path,
      next: 'Run "vcb recover", and "vcb orphans" to search vSphere for what no journal knows.',
    })
  }
  // Again, and nearer to the change: whoever opens the file from now on finds it damaged and does not keep it open.
  await refuseOthers(stateDirectory)
  const aside = await setStateAside(path, clock.now())
  await using _made = await openState(path)
  return aside
}

async function isSound(path: string, known: boolean, clock: Clock): Promise<boolean> {
  try {
    await using state = await openState(path, { known })
    const [problem] = state.statement<[], string>('PRAGMA integrity_check(1)', (row) => row.text('integrity_check')).all()
    if (problem !== 'ok') return false
    // Sound as a database; each row must make sense, too.
    const journal = await openSqliteJournal({ state, clock, ids: createIds(), processes: systemProcesses })
    await journal.unfinished()
    await journal.finished(Number.MAX_SAFE_INTEGER)
    return true
  } catch (error) {
    if (isAgentError(error, 'INTEGRITY')) return false
    throw error
  }
}

async function refuseOthers(stateDirectory: string): Promise<void> {
  const others = await holdersOf(stateDirectory)
  if (others.length === 0) return
  throw new AgentError(
    'CONFLICT',
    `The state directory ${stateDirectory} is in use by process ${others.join(', ')}; its journal was left as it is.`,
    {
      subject: stateDirectory,
      next: 'End that vcb or wait until it has ended, then run the command again.',
    },
  )
}
