import type { AgentError, ClaimId, Clock, VmRef } from '../core/index.ts'
import type { State } from '../state/index.ts'
import { type Processes, sameProcess } from './process.ts'
import { type Holder, HOLDER_COLUMNS, HolderJudge, readHolder } from './vm-holder.ts'
import type { Releaser } from './releasers.ts'

/** One VM for the locks: unique in one vCenter, and vCenters are unique among themselves. */
export const vmKey = (vm: VmRef): string => `${vm.vcenterUuid}/${vm.instanceUuid}`

/** At most one job works on a VM at a time, over all processes that share a state file, or all proxies that share a database. Taken as the claim kind `vmLock`. */
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

export class SqliteVmLocks implements VmLocks {
  readonly #state: State
  readonly #clock: Clock
  readonly #judge: HolderJudge
  readonly #sql: ReturnType<typeof prepare>

  constructor(options: { readonly state: State; readonly clock: Clock; readonly processes: Processes }) {
    this.#state = options.state
    this.#clock = options.clock
    this.#judge = new HolderJudge(options.clock, options.processes)
    this.#sql = prepare(options.state)
  }

  async acquire(vm: VmRef, claim: ClaimId): Promise<{ readonly vmKey: string }> {
    const key = vmKey(vm)
    const seen = this.#sql.holder.get(key)
    const takeable = seen === undefined || (await this.#judge.isTakeable(seen))
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
    if (holder !== undefined) throw await this.#judge.conflict(vm, holder)
    return { vmKey: key }
  }

  async refusal(vm: VmRef): Promise<AgentError | undefined> {
    const holder = this.#sql.holder.get(vmKey(vm))
    if (holder === undefined || holder.closed) return undefined
    return this.#judge.isLeased(holder) || (await this.#judge.isOwned(holder)) ? this.#judge.conflict(vm, holder) : undefined
  }

  async find(claim: ClaimId): Promise<{ readonly vmKey: string } | undefined> {
    const vmKey = this.#sql.byClaim.get(claim)
    return vmKey === undefined ? undefined : { vmKey }
  }

  async release(claim: ClaimId): Promise<void> {
    this.#state.note('VM unlocked', () => this.#sql.remove.run(claim))
  }
}

function prepare(state: State) {
  return {
    holder: state.statement<[string], Holder>(
      `SELECT ${HOLDER_COLUMNS}
       FROM vm_lock JOIN claim ON claim.id = vm_lock.claim JOIN job ON job.id = claim.job WHERE vm_lock.vm = ?`,
      readHolder,
    ),
    byClaim: state.statement<[string], string>('SELECT vm FROM vm_lock WHERE claim = ?', (row) => row.text('vm')),
    insert: state.statement<[string, string, string, string]>('INSERT INTO vm_lock (vm, vm_name, claim, taken_at) VALUES (?, ?, ?, ?)'),
    remove: state.statement<[string]>('DELETE FROM vm_lock WHERE claim = ?'),
    closeClaim: state.statement<[string, string]>(
      `UPDATE claim SET state = 'released', released_at = ? WHERE id = ? AND state <> 'released'`,
    ),
  }
}
