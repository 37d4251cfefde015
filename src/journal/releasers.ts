import type { Abortable, ClaimId, JobId } from '../core/index.ts'
import type { ClaimArgs, ClaimKind, ClaimRef } from './claim-kinds.ts'

/** A claim as a releaser sees it. */
export type ReleasableClaim<K extends ClaimKind> = {
  readonly id: ClaimId
  readonly job: JobId
  readonly args: ClaimArgs<K>
  /** When its effect was about to be tried, in a job of another process; undefined in a running job, which knows how its call ended. */
  readonly intendedAt?: Date | undefined
}

/**
 * How one kind of claim is found again and undone. Both calls are idempotent and bound their own time. They run after success, failure, cancel
 * and a crash alike: there is no second copy of any clean-up.
 *
 * `options.signal` is never the job's: it is the *release deadline*. It aborts when the user's patience ends (the cancel deadline, a second
 * signal), some time after the job itself was canceled. A call then throws soon; what it was at stays listed for recovery. Pauses and
 * repetitions inside a call end with it.
 */
export interface Releaser<K extends ClaimKind> {
  /**
   * Looks an effect up by its claim id, for a claim that was never confirmed. First waits for whatever could still produce it (a running
   * snapshot task). Undefined = it does not exist and will not come.
   */
  find(claim: ReleasableClaim<K>, options?: Abortable): Promise<ClaimRef<K> | undefined>
  /** Undoes it. Already gone (NOT_FOUND) is success. */
  release(ref: ClaimRef<K>, claim: ReleasableClaim<K>, options?: Abortable): Promise<void>
}

/** The one registry. A kind without a releaser is kept and reported, never dropped. */
export type Releasers = { readonly [K in ClaimKind]?: Releaser<K> | undefined }
