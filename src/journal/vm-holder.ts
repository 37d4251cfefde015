import { AgentError, type ClaimId, type Clock, type JobId, type VmRef } from '../core/index.ts'
import type { Row } from '../state/index.ts'
import { readOwner } from './job-rows.ts'
import type { ProcessIdentity, Processes } from './process.ts'

/** The row of who has a VM. */
export type Holder = {
  readonly claim: ClaimId
  readonly vmName: string
  readonly takenAt: string
  readonly job: JobId
  readonly jobKind: string
  readonly owner: ProcessIdentity | undefined
  readonly leaseUntil: string | undefined
  /** The claim or its job is closed: the row is a remainder. */
  readonly closed: boolean
  readonly otherClaims: number
}

/** What the locks ask for of each row. */
export const HOLDER_COLUMNS = `vm_lock.claim, vm_lock.vm_name, vm_lock.taken_at, claim.state, claim.job, job.kind, job.finished_at,
  job.owner_pid, job.owner_boot, job.owner_start, job.lease_until,
  (SELECT count(*) FROM claim AS other WHERE other.job = claim.job AND other.id <> claim.id AND other.state <> 'released') AS other_claims`

export function readHolder(row: Row): Holder {
  return {
    claim: row.text('claim') as ClaimId,
    vmName: row.text('vm_name'),
    takenAt: row.text('taken_at'),
    job: row.text('job') as JobId,
    jobKind: row.text('kind'),
    owner: readOwner(row),
    leaseUntil: row.optionalText('lease_until'),
    closed: row.text('state') === 'released' || row.optionalText('finished_at') !== undefined,
    otherClaims: row.integer('other_claims'),
  }
}

/** Whether who has a VM keeps it, and what others are told. */
export class HolderJudge {
  readonly #clock: Clock
  readonly #processes: Processes

  constructor(clock: Clock, processes: Processes) {
    this.#clock = clock
    this.#processes = processes
  }

  /** It may be taken away: its job is closed, or dead and holds nothing else. */
  async isTakeable(holder: Holder): Promise<boolean> {
    if (holder.closed) return true
    return holder.otherClaims === 0 && !this.isLeased(holder) && !(await this.isOwned(holder))
  }

  isLeased(holder: Holder): boolean {
    return holder.leaseUntil !== undefined && new Date(holder.leaseUntil) > this.#clock.now()
  }

  async isOwned(holder: Holder): Promise<boolean> {
    return holder.owner !== undefined && (await this.#processes.isAlive(holder.owner))
  }

  async conflict(vm: VmRef, holder: Holder): Promise<AgentError> {
    const what = `The VM ${vm.name} is locked by ${holder.jobKind} job ${holder.job}`
    const since = `since ${holder.takenAt}`
    if (this.isLeased(holder)) {
      return new AgentError('CONFLICT', `${what} ${since}, which is a lease until ${holder.leaseUntil}.`, {
        subject: vm.name,
        next: 'End the lease, or wait until it runs out.',
      })
    }
    if (await this.isOwned(holder)) {
      return new AgentError('CONFLICT', `${what} ${since}, run by process ${holder.owner?.pid}.`, {
        subject: vm.name,
        next:
          holder.jobKind === 'mount'
            ? `End the lease with "vcb unmount ${holder.job}", or wait until it has ended.`
            : 'Wait until that job has ended and run the command again.',
      })
    }
    return new AgentError('CONFLICT', `${what} ${since}; its process has ended, and what it held is not released yet.`, {
      subject: vm.name,
      next: 'Run "vcb recover", then run the command again.',
    })
  }
}
