import { AgentError, type RunRecord } from '../core/index.ts'
import type { Row } from '../state/index.ts'

/** Records that a query without a limit gives at most. */
export const MOST_UNLESS_SAID = 1000

/** What some version of the agent wrote; that it is the record of this row is made sure of. */
export function readRecord(row: Row): RunRecord {
  const record = row.json('record')
  if (typeof record !== 'object' || record === null || !('run' in record) || record.run !== row.text('run')) {
    throw new AgentError('INTEGRITY', `The state database holds no record of run ${row.text('run')}.`, {
      next: 'Restore the state directory from its last backup, or name another one.',
    })
  }
  return record as RunRecord
}
