import type { ClaimId } from '../core/index.ts'
import type { ClaimArgs, ClaimKind, ClaimRef } from './claim-kinds.ts'

/** A claim as a releaser sees it. */
export type ReleasableClaim<K extends ClaimKind> = { readonly id: ClaimId; readonly args: ClaimArgs<K> }

/**
 * How one kind of claim is found again and undone. Both calls are idempotent, get no signal of the job, and bound their own time.
 * They run after success, failure, cancel and a crash alike: there is no second copy of any clean-up.
 */
export interface Releaser<K extends ClaimKind> {
  /**
   * Looks an effect up by its claim id, for a claim that was never confirmed. First waits for whatever could still produce it (a running
   * snapshot task). Undefined = it does not exist and will not come.
   */
  find(claim: ReleasableClaim<K>): Promise<ClaimRef<K> | undefined>
  /** Undoes it. Already gone (NOT_FOUND) is success. */
  release(ref: ClaimRef<K>, claim: ReleasableClaim<K>): Promise<void>
}

/** The one registry. A kind without a releaser is kept and reported, never dropped. */
export type Releasers = { readonly [K in ClaimKind]?: Releaser<K> | undefined }
