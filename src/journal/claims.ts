import { AgentError, type ClaimId, type JobId, throwIfAborted, toAgentError } from '../core/index.ts'
import type { ClaimArgs, ClaimKind, ClaimRef } from './claim-kinds.ts'
import type { Journal, JournaledClaim } from './journal.ts'
import { type ClaimReport, type ReleaseLimit, releaseClaims } from './release-claims.ts'
import type { Releasers } from './releasers.ts'

/** One thing held. `ref` is how to reach it. */
export type Held<K extends ClaimKind> = { readonly id: ClaimId; readonly kind: K; readonly ref: ClaimRef<K> }

/**
 * What one job holds. Disposal releases everything in reverse order and reports what could not be released (`LeftError`); it never gets the job's
 * signal. What `release` tried in vain is not tried a second time by disposal, but left to recovery.
 */
export interface Claims extends AsyncDisposable {
  readonly job: JobId
  /** What is held now, in the order it was taken. */
  readonly held: readonly JournaledClaim[]
  /** True after `detach`. */
  readonly detached: boolean
  /**
   * Takes something: durable intent → `acquire` (which writes the claim id into the effect) → durable confirmation.
   * When `acquire` fails, whatever it may have done is looked up and released before the error is thrown; should that fail too, the claim
   * stays and a `SuppressedError` carries both (`suppressed` = the error of `acquire`).
   */
  take<K extends ClaimKind>(
    kind: K,
    args: ClaimArgs<K>,
    dependsOn: readonly ClaimId[],
    acquire: (claim: ClaimId) => Promise<ClaimRef<K>>,
  ): Promise<Held<K>>
  /** Releases one claim early. CONFLICT while a claim that depends on it is held. Released already = success. */
  release(claim: ClaimId): Promise<void>
  /**
   * What reaches a held thing is another now (a lock file written again under a new name): durable when it resolves, and what the release
   * gets. INTERNAL when the claim is not held.
   */
  update<K extends ClaimKind>(claim: ClaimId, ref: ClaimRef<K>): Promise<void>
  /** The effect is the user's to keep now (a VM restored with success): struck from the journal, not undone. */
  keep(claim: ClaimId): Promise<void>
  /** Turns what is held into a lease: disposal then releases nothing; the job stays open until `leaseUntil` or until it is adopted. */
  detach(leaseUntil: Date): Promise<void>
}

/** Something is still held, and listed for recovery. `kept` says what and why. */
export class LeftError extends AgentError {
  readonly kept: readonly ClaimReport[]
  /** What went wrong before: the error of the work; undefined when only releases failed. */
  readonly first: AgentError | undefined

  constructor(kept: readonly ClaimReport[], init: { readonly first?: AgentError | undefined } = {}) {
    const { first } = init
    const errors = kept.map((report) => report.error).filter((error) => error !== undefined)
    const what = kept.map((report) => `${report.what} (${report.reason ?? 'unknown reason'})`).join('; ')
    const code = first?.code ?? (errors[0] === undefined ? 'INTERNAL' : toAgentError(errors[0]).code)
    super(code, [...(first === undefined ? [] : [first.message]), ...(kept.length === 0 ? [] : [`Still held: ${what}.`])].join(' '), {
      subject: first?.subject ?? kept[0]?.job,
      next: 'It stays listed in "vcb status"; "vcb recover" releases it once the cause is gone.',
      cause: first ?? (errors.length > 1 ? new AggregateError(errors, 'Several releases failed.') : errors[0]),
    })
    this.kept = kept
    this.first = first
  }
}

/** The claims of a job that this process has just begun or adopted. */
export function createClaims(journal: Journal, releasers: Releasers, job: JobId, limit: ReleaseLimit = {}): Claims {
  return new JobClaims(journal, releasers, job, [], limit)
}

/**
 * The claims of a lease, or of a job nobody answers for, rebuilt from the journal and owned by this process from now on.
 * NOT_FOUND when there is no such open job, CONFLICT when a process owns it.
 */
export async function resumeClaims(journal: Journal, releasers: Releasers, job: JobId, limit: ReleaseLimit = {}): Promise<Claims> {
  const found = (await journal.unfinished()).find((open) => open.id === job)
  if (found === undefined) throw new AgentError('NOT_FOUND', `There is no open job or lease ${job}.`, { subject: job })
  if (found.owner !== undefined || !(await journal.adopt(job, undefined))) {
    throw new AgentError('CONFLICT', `Job ${job} belongs to a running process${found.owner ? ` (pid ${found.owner.pid})` : ''}.`, {
      subject: job,
    })
  }
  return new JobClaims(journal, releasers, job, found.claims, limit)
}

class JobClaims implements Claims {
  readonly job: JobId
  readonly #journal: Journal
  readonly #releasers: Releasers
  readonly #limit: ReleaseLimit
  #held: readonly JournaledClaim[]
  /** What `release` tried in vain. */
  #left: readonly ClaimReport[] = []
  #state: 'open' | 'detached' | 'ended' = 'open'

  constructor(journal: Journal, releasers: Releasers, job: JobId, held: readonly JournaledClaim[], limit: ReleaseLimit) {
    this.job = job
    this.#journal = journal
    this.#releasers = releasers
    this.#held = held
    this.#limit = limit
  }

  get held(): readonly JournaledClaim[] {
    return this.#held
  }

  get detached(): boolean {
    return this.#state === 'detached'
  }

  async take<K extends ClaimKind>(
    kind: K,
    args: ClaimArgs<K>,
    dependsOn: readonly ClaimId[],
    acquire: (claim: ClaimId) => Promise<ClaimRef<K>>,
  ): Promise<Held<K>> {
    if (this.#state !== 'open') throw new AgentError('INTERNAL', `Job ${this.job} took a ${kind} after it had ended.`)
    const id = await this.#journal.intend(this.job, kind, args, dependsOn)
    const intended: JournaledClaim = {
      id,
      job: this.job,
      kind,
      args,
      dependsOn,
      state: 'intended',
      ref: undefined,
      intendedAt: undefined,
      keptReason: undefined,
      keptAt: undefined,
      attempts: 0,
    }
    this.#held = [...this.#held, intended]
    try {
      const ref = await acquire(id)
      // Known in memory first: should the confirmation not be recorded, the release needs no search.
      this.#replace({ ...intended, state: 'confirmed', ref })
      await this.#journal.confirm(id, ref)
      return { id, kind, ref }
    } catch (error) {
      throwIfAborted({ signal: this.#limit.fenced })
      const left = await this.#releaseThese(this.#held.filter((claim) => claim.id === id))
      if (left === undefined) throw error
      // Tried again when the job ends, unless the time for that is over already.
      if (this.#limit.deadline?.aborted === true) this.#left = [...this.#left, ...left.kept]
      throw new SuppressedError(left, error, `${toAgentError(error).message} ${left.message}`)
    }
  }

  async release(claim: ClaimId): Promise<void> {
    throwIfAborted({ signal: this.#limit.fenced })
    const wanted = this.#held.filter((held) => held.id === claim)
    const above = this.#held.find((held) => held.dependsOn.includes(claim))
    if (wanted[0] !== undefined && above !== undefined) {
      throw new AgentError(
        'CONFLICT',
        `The ${wanted[0].kind} ${claim} cannot be released while the ${above.kind} ${above.id} depends on it.`,
        {
          subject: claim,
          retry: 'never',
        },
      )
    }
    if (this.#state !== 'open') throw new AgentError('INTERNAL', `Job ${this.job} released a claim after it had ended.`)
    const left = await this.#releaseThese(wanted)
    if (left === undefined) return
    this.#left = [...this.#left, ...left.kept]
    throw left
  }

  async update<K extends ClaimKind>(claim: ClaimId, ref: ClaimRef<K>): Promise<void> {
    const held = this.#held.find((each) => each.id === claim)
    if (held === undefined) throw new AgentError('INTERNAL', `Claim ${claim} is not held.`)
    await this.#journal.confirm(claim, ref)
    this.#replace({ ...held, state: 'confirmed', ref })
  }

  async keep(claim: ClaimId): Promise<void> {
    await this.#journal.released(claim)
    this.#held = this.#held.filter((held) => held.id !== claim)
  }

  async detach(leaseUntil: Date): Promise<void> {
    await this.#journal.disown(this.job, leaseUntil)
    this.#state = 'detached'
    this.#held = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state !== 'open') return
    this.#state = 'ended'
    if (this.#limit.fenced?.aborted === true) return
    const left = await this.#releaseRest()
    if (left === undefined) return
    // Nobody answers for the rest now, so that any recovery, also one in this process, may take it over.
    try {
      await this.#journal.disown(this.job)
    } catch (error) {
      throw new LeftError(left.kept, { first: toAgentError(error) })
    }
    throw left
  }

  #replace(claim: JournaledClaim): void {
    this.#held = this.#held.map((held) => (held.id === claim.id ? claim : held))
  }

  /** Everything but what was tried before; what that stands on is kept with it. */
  async #releaseRest(): Promise<LeftError | undefined> {
    const stuck = new Set(this.#left.map((report) => report.claim))
    const left = await this.#releaseThese(
      this.#held.filter((claim) => !stuck.has(claim.id)),
      this.#held.filter((claim) => stuck.has(claim.id)),
    )
    // By claim: work that was abandoned in the middle of a release may have added to what is left meanwhile.
    const kept = [...new Map([...this.#left, ...(left?.kept ?? [])].map((report) => [report.claim, report])).values()]
    return kept.length === 0 ? undefined : new LeftError(kept)
  }

  /** Releases and forgets; what could not be released stays and comes back as one error, the first cause first. */
  async #releaseThese(claims: readonly JournaledClaim[], stuck: readonly JournaledClaim[] = []): Promise<LeftError | undefined> {
    const reports = await releaseClaims(this.#journal, this.#releasers, claims, this.#limit, stuck)
    const kept = reports.filter((report) => report.result === 'kept')
    const gone = new Set(reports.filter((report) => report.result !== 'kept').map((report) => report.claim))
    this.#held = this.#held.filter((held) => !gone.has(held.id))
    return kept.length === 0 ? undefined : new LeftError(kept)
  }
}
