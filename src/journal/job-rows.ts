import { AgentError, type ClaimId, type JobId } from '../core/index.ts'
import type { Row } from '../state/index.ts'
import type { CancelRequest, FinishedJob, JobOutcome, JournaledClaim, JournaledJob } from './journal.ts'
import type { ProcessIdentity } from './process.ts'

/** Who answers for a job, of a row with the owner's columns. */
export function readOwner(row: Row): ProcessIdentity | undefined {
  const pid = row.optionalInteger('owner_pid')
  return pid === undefined ? undefined : { pid, bootId: row.text('owner_boot'), startTime: row.integer('owner_start') }
}

export function readJob(row: Row): Omit<JournaledJob, 'claims'> {
  const lease = row.optionalText('lease_until')
  const canceled = row.optionalText('cancel_requested_at')
  return {
    id: row.text('id') as JobId,
    kind: row.text('kind'),
    args: row.json('args'),
    owner: readOwner(row),
    leaseUntil: lease === undefined ? undefined : new Date(lease),
    begunAt: new Date(row.text('begun_at')),
    outcome: readOutcome(row),
    waitsFor: row.optionalText('waits_for'),
    cancel: canceled === undefined ? undefined : { at: new Date(canceled), by: row.text('cancel_requested_by') },
  }
}

const readOutcome = (row: Row): JobOutcome | undefined => row.json('outcome') as JobOutcome | undefined

export function readClaim(row: Row): JournaledClaim {
  const dependsOn = row.json('depends_on')
  const kept = row.optionalText('kept_at')
  if (!Array.isArray(dependsOn)) throw new AgentError('INTEGRITY', 'The state database holds a claim with unreadable dependencies.')
  return {
    id: row.text('id') as ClaimId,
    job: row.text('job') as JobId,
    kind: row.text('kind'),
    args: row.json('args'),
    dependsOn: dependsOn.map((id: unknown) => String(id) as ClaimId),
    state: row.text('state') === 'confirmed' ? 'confirmed' : 'intended',
    ref: row.json('ref'),
    intendedAt: new Date(row.text('intended_at')),
    keptReason: row.optionalText('kept_reason'),
    keptAt: kept === undefined ? undefined : new Date(kept),
    attempts: row.integer('attempts'),
  }
}

export const toJson = (value: unknown): string => JSON.stringify(value ?? null)

export const readFinished = (row: Row): FinishedJob => ({
  id: row.text('id') as JobId,
  kind: row.text('kind'),
  args: row.json('args'),
  begunAt: new Date(row.text('begun_at')),
  finishedAt: new Date(row.text('finished_at')),
  outcome: readOutcome(row) ?? { result: 'failed', reason: 'The outcome was not recorded.' },
})

export const readRequest = (row: Row): CancelRequest => ({
  job: row.text('id') as JobId,
  by: row.text('cancel_requested_by'),
  at: new Date(row.text('cancel_requested_at')),
})
