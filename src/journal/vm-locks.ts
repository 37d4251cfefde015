import { AgentError, type ClaimId, type Clock, type JobId, type VmRef } from '../core/index.ts'
import type { State } from '../state/index.ts'
import type { ProcessIdentity, Processes } from './process.ts'
import { sameProcess } from './process.ts'
import type { Releaser } from './releasers.ts'

/** One VM for the locks: unique in one vCenter, and vCenters are unique among themselves. */
export const vmKey = (vm: VmRef): string => `${vm.vcenterUuid}/${vm.instanceUuid}`

/** At most one job works on a VM at a time, over all processes that share this state file. Taken as the claim kind `vmLock`. */
export interface VmLocks {
  /**
   * Locks the VM for a claim of the journal. CONFLICT names the job that holds it, its process and since when. A lock whose owner is dead
   * and holds nothing but the lock is taken over; one that holds more must be recovered first.
   */
  acquire(vm: VmRef, claim: ClaimId): Promise<{ readonly vmKey: string }>
  /**
   * What `acquire` would be refused with now; undefined = nothing. A holder that has died counts as none, because a job recovers what it left first.
   * Takes nothing.
   */
  refusal(vm: VmRef): Promise<AgentError | undefined>
  /** The VM a claim locks; undefined = none. */
  find(claim: ClaimId): Promise<{ readonly vmKey: string } | undefined>
  /** Unlocks, if `claim` still holds it. Idempotent. */
  release(claim: ClaimId): Promise<void>
}

/** The releaser of the claim kind `vmLock`. */
export const vmLockReleaser = (locks: VmLocks): Releaser<'vmLock'> => ({
  find: (claim) => locks.find(claim.id),
  release: (_ref, claim) => locks.release(claim.id),
})

type Holder = {
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

export class SqliteVmLocks implements VmLocks {
  readonly #state: State
  readonly #clock: Clock
  readonly #processes: Processes
  readonly #sql: ReturnType<typeof prepare>

  constructor(options: { readonly state: State; readonly clock: Clock; readonly processes: Processes }) {
    this.#state = options.state
    this.#clock = options.clock
    this.#processes = options.processes
    this.#sql = prepare(options.state)
  }

  async acquire(vm: VmRef, claim: ClaimId): Promise<{ readonly vmKey: string }> {
    const key = vmKey(vm)
    const seen = this.#sql.holder.get(key)
    const takeable = seen === undefined || (await this.#isTakeable(seen))
    // Decided outside the transaction because liveness is asynchronous, so the holder must still be the one that was judged.
    const holder = this.#state.transaction('VM locked', () => {
      const now = this.#sql.holder.get(key)
      if (now !== undefined) {
        if (now.claim === claim) return undefined
        if (!takeable || now.claim !== seen?.claim || !sameProcess(now.owner, seen.owner) || now.otherClaims > 0) return now
        this.#sql.remove.run(now.claim)
        this.#sql.closeClaim.run(this.#clock.now().toISOString(), now.claim)
      }
      this.#sql.insert.run(key, vm.name, claim, this.#clock.now().toISOString())
      return undefined
    })
    if (holder !== undefined) throw await this.#conflict(vm, holder)
    return { vmKey: key }
  }

  async refusal(vm: VmRef): Promise<AgentError | undefined> {
    const holder = this.#sql.holder.get(vmKey(vm))
    if (holder === undefined || holder.closed) return undefined
    return this.#isLeased(holder) || (await this.#isOwned(holder)) ? this.#conflict(vm, holder) : undefined
  }

  async find(claim: ClaimId): Promise<{ readonly vmKey: string } | undefined> {
    const vmKey = this.#sql.byClaim.get(claim)
    return vmKey === undefined ? undefined : { vmKey }
  }

  async release(claim: ClaimId): Promise<void> {
    this.#state.transaction('VM unlocked', () => this.#sql.remove.run(claim))
  }

  async #isTakeable(holder: Holder): Promise<boolean> {
    if (holder.closed) return true
    return holder.otherClaims === 0 && !this.#isLeased(holder) && !(await this.#isOwned(holder))
  }

  #isLeased(holder: Holder): boolean {
    return holder.leaseUntil !== undefined && new Date(holder.leaseUntil) > this.#clock.now()
  }

  async #isOwned(holder: Holder): Promise<boolean> {
    return holder.owner !== undefined && (await this.#processes.isAlive(holder.owner))
  }

  async #conflict(vm: VmRef, holder: Holder): Promise<AgentError> {
    const what = `The VM ${vm.name} is locked by ${holder.jobKind} job ${holder.job}`
    const since = `since ${holder.takenAt}`
    if (this.#isLeased(holder)) {
      return new AgentError('CONFLICT', `${what} ${since}, which is a lease until ${holder.leaseUntil}.`, {
        subject: vm.name,
        next: 'End the lease, or wait until it runs out.',
      })
    }
    if (await this.#isOwned(holder)) {
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

function prepare(state: State) {
  return {
    holder: state.statement<[string], Holder>(
      `SELECT vm_lock.claim, vm_lock.vm_name, vm_lock.taken_at, claim.state, claim.job, job.kind, job.finished_at,
              job.owner_pid, job.owner_boot, job.owner_start, job.lease_until,
              (SELECT count(*) FROM claim AS other WHERE other.job = claim.job AND other.id <> claim.id AND other.state <> 'released')
                AS other_claims
       FROM vm_lock JOIN claim ON claim.id = vm_lock.claim JOIN job ON job.id = claim.job WHERE vm_lock.vm = ?`,
      (row) => {
        const pid = row.optionalInteger('owner_pid')
        return {
          claim: row.text('claim') as ClaimId,
          vmName: row.text('vm_name'),
          takenAt: row.text('taken_at'),
          job: row.text('job') as JobId,
          jobKind: row.text('kind'),
          owner: pid === undefined ? undefined : { pid, bootId: row.text('owner_boot'), startTime: row.integer('owner_start') },
          leaseUntil: row.optionalText('lease_until'),
          closed: row.text('state') === 'released' || row.optionalText('finished_at') !== undefined,
          otherClaims: row.integer('other_claims'),
        }
      },
    ),
    byClaim: state.statement<[string], string>('SELECT vm FROM vm_lock WHERE claim = ?', (row) => row.text('vm')),
    insert: state.statement<[string, string, string, string]>('INSERT INTO vm_lock (vm, vm_name, claim, taken_at) VALUES (?, ?, ?, ?)'),
    remove: state.statement<[string]>('DELETE FROM vm_lock WHERE claim = ?'),
    closeClaim: state.statement<[string, string]>(
      `UPDATE claim SET state = 'released', released_at = ? WHERE id = ? AND state <> 'released'`,
    ),
  }
}
