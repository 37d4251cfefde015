import { AgentError, isAgentError, toAgentError, unlessAborted } from '../core/index.ts'
import type { CancelWatch } from './cancel-watch.ts'
import { type Claims, createClaims, LeftError } from './claims.ts'
import type { Journal, JobOutcome } from './journal.ts'
import type { Releasers } from './releasers.ts'

export type RunJobOptions<T = unknown> = {
  readonly journal: Journal
  readonly releasers: Releasers
  /** `backup`, `restore`, …; shown where the job is named. */
  readonly kind: string
  /** Plain JSON that tells a reader of the journal what the job was about. */
  readonly args: unknown
  /** What may cancel the job; nothing otherwise. */
  readonly cancels?: CancelWatch | undefined
  /** The signal of the job that this one is a part of. */
  readonly partOf?: AbortSignal | undefined
  /** The work is a set of jobs of their own, each of which gives up by itself: it is always waited for. */
  readonly ofParts?: boolean | undefined
  /** What a job whose work is done came to; succeeded when it is not said. */
  readonly outcomeOf?: ((result: T) => JobOutcome) | undefined
  /**
   * Called when the work is done but something of the job stays held, or its end could not be recorded (then `kept` is empty): the result counts, and
   * recovery does the rest. Without it that is thrown.
   */
  readonly onLeft?: ((left: LeftError) => void) | undefined
}

/** What a job does. `signal` aborts when the job is canceled; it is passed to everything but releases. */
export type JobWork<T> = (claims: Claims, signal: AbortSignal | undefined) => Promise<T>

/**
 * One job from its first row to its last: begins it, runs `work`, releases what it took, closes it with its outcome. A job that detached
 * stays open as a lease; a job that could not release something stays open for recovery. Throws the error of `work`; when something stays held
 * as well, a `LeftError` with that error's code, which says both. Of a process that is fenced, the reason of the fence.
 */
export async function runJob<T>(options: RunJobOptions<T>, work: JobWork<T>): Promise<T> {
  const { journal } = options
  const job = await journal.begin(options.kind, options.args)
  using signals = options.cancels?.watch(job, options.partOf)
  const claims = createClaims(journal, options.releasers, job, signals)
  let outcome: JobOutcome = { result: 'succeeded' }
  let done: { readonly result: T } | undefined
  let failed: { readonly error: unknown } | undefined
  try {
    await using held = claims
    const result = work(held, signals?.canceled)
    done = { result: await (options.ofParts === true ? result : unlessAborted(result, signals?.abandoned)) }
    outcome = options.outcomeOf?.(done.result) ?? outcome
  } catch (error) {
    const shown = bothTold(error)
    if (done !== undefined && options.onLeft !== undefined && shown instanceof LeftError) {
      options.onLeft(shown)
    } else {
      const first = (shown instanceof LeftError ? shown.first : undefined) ?? toAgentError(shown)
      outcome = { result: first.code === 'CANCELED' ? 'canceled' : 'failed', reason: first.message }
      failed = { error: shown }
    }
  }
  if (signals?.fenced?.aborted === true) {
    // All of it is another process's now. One error, whatever failed in the middle, and nothing is written down.
    const fenced = toAgentError(signals.fenced.reason)
    if (done === undefined || options.onLeft === undefined) throw fenced
    options.onLeft(new LeftError([], { first: fenced }))
    return done.result
  }
  try {
    if (!claims.detached) await (claims.held.length === 0 ? journal.finish(job, outcome) : journal.disown(job, undefined, outcome))
  } catch (error) {
    // Recovery was faster, and writes down how it ended.
    if (failed?.error instanceof LeftError && isAgentError(error, 'CONFLICT')) throw failed.error
    if (failed !== undefined)
      throw new SuppressedError(error, failed.error, `${toAgentError(failed.error).message} ${toAgentError(error).message}`)
    if (options.onLeft === undefined) throw error
    options.onLeft(new LeftError([], { first: toAgentError(error) }))
  }
  if (failed !== undefined) throw failed.error
  if (done === undefined) throw new AgentError('INTERNAL', `Job ${job} ended without a result.`)
  return done.result
}

/** The error of the work and what its releases left, in one. */
function bothTold(error: unknown): unknown {
  if (!(error instanceof SuppressedError) || !(error.error instanceof LeftError)) return error
  return new LeftError(error.error.kept, { first: toAgentError(error.suppressed) })
}
