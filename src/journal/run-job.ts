import { toAgentError } from '../core/index.ts'
import { type Claims, createClaims } from './claims.ts'
import type { Journal, JobOutcome } from './journal.ts'
import type { Releasers } from './releasers.ts'

export type RunJobOptions = {
  readonly journal: Journal
  readonly releasers: Releasers
  /** `backup`, `restore`, …; shown where the job is named. */
  readonly kind: string
  /** Plain JSON that tells a reader of the journal what the job was about. */
  readonly args: unknown
}

export type JobWork<T> = (claims: Claims) => Promise<T>

/**
 * One job from its first row to its last: begins it, runs `work`, releases what it took, closes it with its outcome. A job that detached
 * stays open as a lease; a job that could not release something stays open for recovery. Throws the error of `work`, or a
 * `SuppressedError` whose `suppressed` is that error when releasing failed as well.
 */
export async function runJob<T>(options: RunJobOptions, work: JobWork<T>): Promise<T> {
  const { journal } = options
  const job = await journal.begin(options.kind, options.args)
  const claims = createClaims(journal, options.releasers, job)
  let outcome: JobOutcome = { result: 'succeeded' }
  await using _close = {
    async [Symbol.asyncDispose](): Promise<void> {
      if (claims.detached) return
      if (claims.held.length === 0) await journal.finish(job, outcome)
      else await journal.disown(job, undefined, outcome)
    },
  }
  try {
    await using held = claims
    return await work(held)
  } catch (error) {
    const first = toAgentError(error)
    outcome = { result: first.code === 'CANCELED' ? 'canceled' : 'failed', reason: first.message }
    throw error
  }
}
