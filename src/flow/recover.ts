import type { Clock, JobId, Log } from '../core/index.ts'
import {
  type ClaimReport,
  type Journal,
  type JournaledClaim,
  keptOf,
  type Processes,
  type RecoveredJob,
  recoverJobs,
  type ReleaseLimit,
  type RecoveryReport,
  type Releasers,
} from '../journal/index.ts'
import { hasLocks } from '../provider/index.ts'

export type RecoverDeps = {
  readonly journal: Journal
  readonly releasers: Releasers
  readonly processes: Processes
  readonly clock: Clock
  readonly log: Log
  /** Name of this machine, where the journal is that of several proxies. */
  readonly host?: string | undefined
  /** Ends the recovery; what is not released by then stays listed. */
  readonly limit?: ReleaseLimit | undefined
}

export type RecoverRequest = {
  /** Only this job; all otherwise. */
  readonly job?: JobId | undefined
  /** How long passes are repeated while something is kept, ms; 0 = one pass. */
  readonly forMs?: number | undefined
  /** Before each pause, with what is kept now and how long the pause is, ms. */
  readonly onWaiting?: ((kept: readonly ClaimReport[], pauseMs: number) => void) | undefined
}

/** Pauses between passes: 2 s doubling up to a minute. ms */
const FIRST_PAUSE = 2000
const LONGEST_PAUSE = 60_000

/**
 * Releases what jobs of dead processes hold, through the same releasers as every other end of a job. Called by `vcb recover` and before each
 * backup or restore starts. Idempotent; what cannot be released yet stays listed with the reason: each claim by itself, so that what is on a vCenter
 * that is away does not keep the rest. Living jobs and leases are left alone and not waited for.
 */
export async function recover(deps: RecoverDeps, request: RecoverRequest = {}): Promise<RecoveryReport> {
  const { processes, ...rest } = deps
  const { clock, limit } = deps
  const until = clock.monotonicMs() + (request.forMs ?? 0)
  let found: RecoveryReport | undefined
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
    found = joined(found, await recoverJobs({ ...rest, isHereToo, isAlive: (owner) => processes.isAlive(owner), job: request.job }))
    const kept = keptOf(found)
    const left = until - clock.monotonicMs()
    if (kept.length === 0 || left <= 0 || limit?.deadline?.aborted === true) return found
    const wait = Math.min(pause, left)
    request.onWaiting?.(kept, wait)
    try {
      await clock.sleep(wait, { signal: limit?.deadline })
    } catch {
      return found
    }
  }
}

/** Lock files of a repository in a directory keep others off, also those who mount it from another machine. */
async function isHereToo({ kind, args }: Pick<JournaledClaim, 'kind' | 'args'>): Promise<boolean> {
  if (kind !== 'repositoryLock' || !isLocks(args)) return false
  return hasLocks(args)
}

const isLocks = (args: unknown): args is { readonly url: string; readonly names: readonly string[] } =>
  typeof args === 'object' &&
  args !== null &&
  'url' in args &&
  typeof args.url === 'string' &&
  'names' in args &&
  Array.isArray(args.names) &&
  args.names.every((name) => typeof name === 'string')

/** What all passes together came to: the last word on each claim, and every job that any of them took up. */
function joined(before: RecoveryReport | undefined, now: RecoveryReport): RecoveryReport {
  if (before === undefined) return now
  const jobs = new Map<JobId, RecoveredJob>(before.recovered.map((job) => [job.job, job]))
  for (const job of now.recovered) {
    const earlier = jobs.get(job.job)?.claims ?? []
    const again = new Set(job.claims.map((claim) => claim.claim))
    jobs.set(job.job, { ...job, claims: [...earlier.filter((claim) => !again.has(claim.claim)), ...job.claims] })
  }
  // A job that another process took over between two passes is no longer ours to report on as kept.
  const elsewhere = new Set(now.untouched.map((job) => job.job))
  return { recovered: [...jobs.values()].filter((job) => job.closed || !elsewhere.has(job.job)), untouched: now.untouched }
}
