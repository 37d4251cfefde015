import type { ClaimId } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import type { Locking } from '../provider/index.ts'

/**
 * Keeps the lock files of one operation as a claim of its job: their names are in the journal before the files are in the repository, so that a
 * lock outlives its process only until recovery, which needs no password. For the `recordLocks` of every call that locks a repository; one
 * for each call.
 */
export function recordLocks(claims: Claims): NonNullable<Locking['recordLocks']> {
  let held: ClaimId | undefined
  return async (locks) => {
    if (locks.names.length > 0 && held === undefined) {
      held = (await claims.take('repositoryLock', locks, [], async () => locks)).id
    } else if (locks.names.length > 0 && held !== undefined) {
      await claims.update<'repositoryLock'>(held, locks)
    } else if (held !== undefined) {
      await claims.release(held)
      held = undefined
    }
  }
}
