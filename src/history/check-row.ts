import { AgentError } from '../core/index.ts'
import type { Row } from '../state/index.ts'
import { type CheckRecord, checkRecordSchema } from './repository-checks.ts'

/** A row of `repository_check`. INTEGRITY for what no vcb wrote. */
export function readCheck(row: Row): { readonly repository: string; readonly record: CheckRecord } {
  const repository = row.text('repository')
  const parsed = checkRecordSchema.safeParse(row.json('record'))
  if (parsed.success) return { repository, record: parsed.data }
  throw new AgentError('INTEGRITY', `The state database holds no record of the checks of ${repository}.`, {
    subject: repository,
    cause: parsed.error,
    next: 'Restore the state directory from its last backup, or name another one.',
  })
}
