import { AgentError, type JobId } from '../core/index.ts'
import { type ProcessIdentity, sameProcess } from './process.ts'

/**
 * Lets through who answers for a job, and with `orNobody` also who notes something about one that nobody answers for. CONFLICT for everybody else:
 * another process has taken the job over, and this one must not act on it any more.
 */
export function assertOwner(
  job: JobId,
  owner: ProcessIdentity | undefined,
  self: ProcessIdentity,
  allow: 'owner' | 'orNobody' = 'owner',
): void {
  if (sameProcess(owner, self) || (owner === undefined && allow === 'orNobody')) return
  throw notOwner(job, owner)
}

export const notOwner = (job: JobId, owner: ProcessIdentity | undefined): AgentError =>
  new AgentError(
    'CONFLICT',
    `Job ${job} does not belong to this process any more${owner === undefined ? '' : `: process ${owner.pid} has taken it over`}.`,
    { subject: job, next: 'What it held is released by who took it over; see "vcb status".' },
  )
