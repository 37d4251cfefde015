import { AgentError, type ClaimId, type Clock, type JobId, type VmRef } from '../core/index.ts'
import { type PgState, pgStatement } from '../state/index.ts'
import { assertOwner } from './job-owner.ts'
import { readOwner } from './job-rows.ts'
import { type ProcessIdentity, type Processes, sameProcess } from './process.ts'
import { type Holder, HOLDER_COLUMNS, HolderJudge, readHolder } from './vm-holder.ts'
import { vmKey, type VmLocks } from './vm-locks.ts'

/** The locks in the database that several proxies share. `processes` knows those of all of them. */
export class PgVmLocks implements VmLocks {
  readonly #state: PgState
  readonly #clock: Clock
  readonly #processes: Processes
  readonly #judge: HolderJudge

  constructor(options: { readonly state: PgState; readonly clock: Clock; readonly processes: Processes }) {
    this.#state = options.state
    this.#clock = options.clock
    this.#processes = options.processes
    this.#judge = new HolderJudge(options.clock, options.processes)
  }

  async acquire(vm: VmRef, claim: ClaimId): Promise<{ readonly vmKey: string }> {
    const key = vmKey(vm)
    const self = await this.#processes.self()
    const at = this.#clock.now().toISOString()
    const seen = await this.#state.get(SQL.holder, key)
    const takeable = seen === undefined || (await this.#judge.isTakeable(seen))
    // Decided before the transaction, so the holder must still be the one that was judged.
    const change = { lock: `VM ${key}` }
    const holder = await this.#state.transaction(
      'VM locked',
      async (session) => {
        // Locked with its job: who was declared dead and lost it locks nothing more.
        const open = await session.get(SQL.ownerOf, claim)
        if (open === undefined) throw new AgentError('INTERNAL', `Claim ${claim} is not held.`)
        assertOwner(open.job, open.owner, self)
        const now = await session.get(SQL.holder, key)
        if (now !== undefined) {
          if (now.claim === claim) return undefined
          if (!takeable || now.claim !== seen?.claim || !sameProcess(now.owner, seen.owner) || now.otherClaims > 0) return now
          await session.run(SQL.remove, now.claim)
          await session.run(SQL.closeClaim, at, now.claim)
        }
        await session.run(SQL.insert, key, vm.name, claim, at)
        return undefined
      },
      change,
    )
    if (holder !== undefined) throw await this.#judge.conflict(vm, holder)
    return { vmKey: key }
  }

  async refusal(vm: VmRef): Promise<AgentError | undefined> {
    const holder = await this.#state.get(SQL.holder, vmKey(vm))
    if (holder === undefined || holder.closed) return undefined
    return this.#judge.isLeased(holder) || (await this.#judge.isOwned(holder)) ? this.#judge.conflict(vm, holder) : undefined
  }

  async find(claim: ClaimId): Promise<{ readonly vmKey: string } | undefined> {
    const key = await this.#state.get(SQL.byClaim, claim)
    return key === undefined ? undefined : { vmKey: key }
  }

  async release(claim: ClaimId): Promise<void> {
    await this.#state.transaction('VM unlocked', (session) => session.run(SQL.remove, claim))
  }
}

const SQL = {
  holder: pgStatement<[string], Holder>(
    `SELECT ${HOLDER_COLUMNS} FROM vm_lock JOIN claim ON claim.id = vm_lock.claim JOIN job ON job.id = claim.job WHERE vm_lock.vm = $1`,
    readHolder,
  ),
  ownerOf: pgStatement<[string], { readonly job: JobId; readonly owner: ProcessIdentity | undefined }>(
    `SELECT job.id, job.owner_pid, job.owner_boot, job.owner_start FROM claim JOIN job ON job.id = claim.job
     WHERE claim.id = $1 AND claim.state <> 'released' FOR UPDATE OF job`,
    (row) => ({ job: row.text('id') as JobId, owner: readOwner(row) }),
  ),
  byClaim: pgStatement<[string], string>('SELECT vm FROM vm_lock WHERE claim = $1', (row) => row.text('vm')),
  insert: pgStatement<[string, string, string, string]>('INSERT INTO vm_lock (vm, vm_name, claim, taken_at) VALUES ($1, $2, $3, $4)'),
  remove: pgStatement<[string]>('DELETE FROM vm_lock WHERE claim = $1'),
  closeClaim: pgStatement<[string, string]>(`UPDATE claim SET state = 'released', released_at = $1 WHERE id = $2 AND state <> 'released'`),
}
