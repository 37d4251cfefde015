import { type ClaimId, isAgentError, type JobId, throwIfAborted, toAgentError, unlessAborted } from '../core/index.ts'
import { claimInWords } from './claim-words.ts'
import type { JobJournal, JobOwnership, JournaledClaim } from './journal.ts'
import type { Releasers } from './releasers.ts'

/** What became of one claim. `absent`: its effect never came to be. */
export type ClaimReport = {
  readonly claim: ClaimId
  readonly job: JobId
  readonly kind: string
  /** What it is, for people: `the snapshot "…" of VM web01`. */
  readonly what: string
  readonly result: 'released' | 'absent' | 'kept'
  /** Why it is kept; one sentence. */
  readonly reason?: string | undefined
  readonly error?: unknown
}

/** How long releasing may take; both absent: as long as the releasers themselves allow. */
export type ReleaseLimit = {
  /** The release deadline, which every releaser gets. Never the signal of a job. */
  readonly deadline?: AbortSignal | undefined
  /** A little later: a releaser that did not stop is no longer waited for, and none is started. */
  readonly abandoned?: AbortSignal | undefined
  /** From then on nothing is released or noted: another process takes over all of it. */
  readonly fenced?: AbortSignal | undefined
  /** An effect that was intended after this moment and is not found is kept, to be looked for once more. */
  readonly lateFrom?: Date | undefined
}

type ReleasingJournal = Pick<JobJournal, 'confirm' | 'released' | 'assertOwned'> & Pick<JobOwnership, 'kept'>

/**
 * The one release path: success, failure, cancel and recovery all end here. Goes through `claims` (given in the order they were taken)
 * backwards. Never throws: one failing release does not stop the next, a claim others still stand on is kept, and so is what the limit cuts off.
 */
export async function releaseClaims(
  journal: ReleasingJournal,
  releasers: Releasers,
  claims: readonly JournaledClaim[],
  limit: ReleaseLimit = {},
  /** Others of the job, which are known to stay: what they stand on stays too. */
  stuck: readonly JournaledClaim[] = [],
): Promise<readonly ClaimReport[]> {
  const reports: ClaimReport[] = []
  const kept: JournaledClaim[] = [...stuck]
  for (const claim of claims.toReversed()) {
    const above = kept.find((other) => other.dependsOn.includes(claim.id))
    const report =
      above === undefined
        ? await releaseOne(journal, releasers, claim, limit)
        : await keep(journal, claim, `${claimInWords(above)}, which depends on it, could not be released`)
    if (report.result === 'kept') kept.push(claim)
    reports.push(report)
  }
  return reports
}

async function releaseOne(
  journal: ReleasingJournal,
  releasers: Releasers,
  claim: JournaledClaim,
  { deadline, abandoned, lateFrom }: ReleaseLimit,
): Promise<ClaimReport> {
  const releaser = releaserOf(releasers, claim.kind)
  if (releaser === undefined) {
    return keep(journal, claim, `Nothing in this command knows how to release a ${claim.kind}.`)
  }
  const options = { signal: deadline }
  try {
    throwIfAborted({ signal: abandoned })
    // Before anything is touched: another process may have taken the job over, and takes what is there for its own.
    await journal.assertOwned(claim.job)
    const ref = claim.state === 'confirmed' ? claim.ref : await unlessAborted(releaser.find(claim, options), abandoned)
    if (ref === undefined && mayCome(claim, lateFrom)) {
      return await keep(
        journal,
        claim,
        'It was not found, and is looked for once more: the request of the dead process may still be under way.',
      )
    }
    if (ref !== undefined) {
      // From here on a second attempt needs no search, even when the release itself fails half-way.
      if (claim.state !== 'confirmed') await journal.confirm(claim.id, ref)
      await unlessAborted(releaser.release(ref, claim, options), abandoned).catch((error: unknown) => {
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      })
    }
    await journal.released(claim.id)
    return { ...claimReport(claim), result: ref === undefined ? 'absent' : 'released' }
  } catch (error) {
    return keep(journal, claim, toAgentError(error).message, error)
  }
}

/** Not of the VM's lock: a row in the journal's own database, which takes nothing of a process that is no owner any more. */
const mayCome = ({ kind, intendedAt }: JournaledClaim, lateFrom: Date | undefined): boolean =>
  lateFrom !== undefined && intendedAt !== undefined && intendedAt > lateFrom && kind !== 'vmLock'

async function keep(journal: ReleasingJournal, claim: JournaledClaim, reason: string, error?: unknown): Promise<ClaimReport> {
  const report = { ...claimReport(claim), result: 'kept', reason } as const
  try {
    await journal.kept(claim.id, reason)
    return { ...report, error }
  } catch (second) {
    return { ...report, error: new SuppressedError(second, error, `The reason for keeping ${claim.id} could not be recorded.`) }
  }
}

/** Which claim a report is about. */
export const claimReport = (claim: JournaledClaim): Pick<ClaimReport, 'claim' | 'job' | 'kind' | 'what'> => ({
  claim: claim.id,
  job: claim.job,
  kind: claim.kind,
  what: claimInWords(claim),
})

type ErasedReleaser = {
  find(
    claim: { readonly id: ClaimId; readonly job: JobId; readonly args: unknown },
    options: { readonly signal: AbortSignal | undefined },
  ): Promise<unknown>
  release(
    ref: unknown,
    claim: { readonly id: ClaimId; readonly job: JobId; readonly args: unknown },
    options: { readonly signal: AbortSignal | undefined },
  ): Promise<void>
}

/** The journal's rows are untyped by nature; a kind's releaser is the one that also wrote the shapes. */
function releaserOf(releasers: Releasers, kind: string): ErasedReleaser | undefined {
  return Object.hasOwn(releasers, kind) ? releasers[kind as keyof Releasers] : undefined
}
