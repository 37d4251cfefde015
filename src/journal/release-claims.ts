import { type Abortable, type ClaimId, isAgentError, type JobId, toAgentError } from '../core/index.ts'
import type { JobJournal, JobOwnership, JournaledClaim } from './journal.ts'
import type { Releasers } from './releasers.ts'

/** What became of one claim. `absent`: its effect never came to be. */
export type ClaimReport = {
  readonly claim: ClaimId
  readonly job: JobId
  readonly kind: string
  readonly result: 'released' | 'absent' | 'kept'
  /** Why it is kept; one sentence. */
  readonly reason?: string | undefined
  readonly error?: unknown
}

type ReleasingJournal = Pick<JobJournal, 'confirm' | 'released'> & Pick<JobOwnership, 'kept'>

/**
 * The one release path: success, failure, cancel and recovery all end here. Goes through `claims` (given in the order they were taken)
 * backwards. Never throws: one failing release does not stop the next, a claim others still stand on is kept. `options.signal` is the release
 * deadline (see `Releaser`), never the signal of the job: once it aborts, what is not released yet is kept.
 */
export async function releaseClaims(
  journal: ReleasingJournal,
  releasers: Releasers,
  claims: readonly JournaledClaim[],
  options: Abortable = {},
): Promise<readonly ClaimReport[]> {
  const reports: ClaimReport[] = []
  const kept: JournaledClaim[] = []
  for (const claim of claims.toReversed()) {
    const above = kept.find((other) => other.dependsOn.includes(claim.id))
    const report =
      above === undefined
        ? await releaseOne(journal, releasers, claim, options)
        : await keep(journal, claim, `The ${above.kind} ${above.id} that depends on it could not be released.`)
    if (report.result === 'kept') kept.push(claim)
    reports.push(report)
  }
  return reports
}

async function releaseOne(
  journal: ReleasingJournal,
  releasers: Releasers,
  claim: JournaledClaim,
  options: Abortable,
): Promise<ClaimReport> {
  const releaser = releaserOf(releasers, claim.kind)
  if (releaser === undefined) {
    return keep(journal, claim, `Nothing in this command knows how to release a ${claim.kind}.`)
  }
  try {
    const ref = claim.state === 'confirmed' ? claim.ref : await releaser.find(claim, options)
    if (ref !== undefined) {
      // From here on a second attempt needs no search, even when the release itself fails half-way.
      if (claim.state !== 'confirmed') await journal.confirm(claim.id, ref)
      await releaser.release(ref, claim, options).catch((error: unknown) => {
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      })
    }
    await journal.released(claim.id)
    return { claim: claim.id, job: claim.job, kind: claim.kind, result: ref === undefined ? 'absent' : 'released' }
  } catch (error) {
    return keep(journal, claim, toAgentError(error).message, error)
  }
}

async function keep(journal: ReleasingJournal, claim: JournaledClaim, reason: string, error?: unknown): Promise<ClaimReport> {
  const report = { claim: claim.id, job: claim.job, kind: claim.kind, result: 'kept', reason } as const
  try {
    await journal.kept(claim.id, reason)
    return { ...report, error }
  } catch (second) {
    return { ...report, error: new SuppressedError(second, error, `The reason for keeping ${claim.id} could not be recorded.`) }
  }
}

type ErasedReleaser = {
  find(claim: { readonly id: ClaimId; readonly args: unknown }, options: Abortable): Promise<unknown>
  release(ref: unknown, claim: { readonly id: ClaimId; readonly args: unknown }, options: Abortable): Promise<void>
}

/** The journal's rows are untyped by nature; a kind's releaser is the one that also wrote the shapes. */
function releaserOf(releasers: Releasers, kind: string): ErasedReleaser | undefined {
  return Object.hasOwn(releasers, kind) ? releasers[kind as keyof Releasers] : undefined
}
