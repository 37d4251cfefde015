import type { Clock, JobId } from '../core/index.ts'
import {
  claimInWords,
  type FinishedJob,
  jobSubject,
  type Journal,
  type JournaledClaim,
  type JournaledJob,
  type ProcessIdentity,
} from '../journal/index.ts'
import type { Buckets, BucketUse } from '../transport/index.ts'
import { leaseOf } from './lease.ts'
import { readRepositories, type RepositoryStatus } from './repository-status.ts'

/** One thing held, as a list shows it. */
export type HeldStatus = {
  readonly claim: string
  readonly kind: string
  /** In words: `the snapshot "…" of VM web01`. */
  readonly what: string
  /** False: its effect was about to be tried, and may or may not exist. */
  readonly certain: boolean
  readonly since: string | undefined
  /** Failed attempts to release it, why the last one failed, and when. */
  readonly attempts: number
  readonly reason: string | undefined
  readonly triedAt: string | undefined
}

export type JobStatus = {
  readonly job: JobId
  readonly kind: string
  /** What it is about: a VM's name, a run, a directory. */
  readonly subject: string | undefined
  readonly since: string
  /** Milliseconds since it began; 0 when the wall clock stepped back behind that. */
  readonly ageMs: number
  readonly pid: number | undefined
  readonly leaseUntil: string | undefined
  /** Where a lease is shown. */
  readonly directory?: string | undefined
  /** When a lease that a process holds ends at the latest. */
  readonly until?: string | undefined
  /** What it waits for, in words: `waits for one of the disk streams of datastore …`. */
  readonly waitsFor: string | undefined
  /** Who asked for its end, and when. */
  readonly cancel: { readonly by: string; readonly at: string } | undefined
  readonly held: readonly HeldStatus[]
  /** What the job itself came to; undefined while it runs, and when its process died. */
  readonly outcome: FinishedJob['outcome'] | undefined
  /** The command that releases it now; only on what is left over. The next backup or restore tries it, too. */
  readonly release?: string | undefined
}

export type StatusReport = {
  readonly running: readonly JobStatus[]
  /** Held on purpose until a moment that has not come yet: by a process of its own ("vcb mount"), or by none. */
  readonly leases: readonly JobStatus[]
  /** Of processes that are dead, or that could not release it. */
  readonly leftOver: readonly JobStatus[]
  /** What processes that live have of each limit, or wait for. */
  readonly limits: readonly BucketUse[]
  readonly repositories: readonly RepositoryStatus[]
  /** The last one first. */
  readonly finished: readonly (Omit<FinishedJob, 'args' | 'id'> & { readonly job: JobId; readonly subject: string | undefined })[]
}

export type StatusDeps = Parameters<typeof readRepositories>[0] & {
  readonly journal: Pick<Journal, 'unfinished' | 'finished'>
  readonly buckets: Pick<Buckets, 'inUse'>
  readonly isAlive: (owner: ProcessIdentity) => Promise<boolean>
  readonly clock: Clock
}

/** What is going on and what is held, from the state database alone: no vCenter is asked. Changes nothing. `finished` limits the list of ended jobs. */
export async function readStatus(deps: StatusDeps, finished: number): Promise<StatusReport> {
  const { journal, buckets, isAlive, clock } = deps
  const now = clock.now()
  const running: JobStatus[] = []
  const leases: JobStatus[] = []
  const leftOver: JobStatus[] = []
  for (const job of await journal.unfinished()) {
    if (job.owner !== undefined && (await isAlive(job.owner))) (leaseOf(job) === undefined ? running : leases).push(jobStatus(job, now))
    else if (job.leaseUntil !== undefined && job.leaseUntil > now) leases.push(jobStatus(job, now))
    else leftOver.push({ ...jobStatus(job, now), release: `vcb recover --job ${job.id}` })
  }
  const ended = (await journal.finished(finished)).map(({ id, args, ...job }) => ({ job: id, subject: jobSubject(args), ...job }))
  return { running, leases, leftOver, limits: await buckets.inUse(), repositories: await readRepositories(deps), finished: ended }
}

const jobStatus = (job: JournaledJob, now: Date): JobStatus => ({
  ...shownIn(job),
  job: job.id,
  kind: job.kind,
  subject: jobSubject(job.args),
  since: job.begunAt.toISOString(),
  ageMs: Math.max(0, now.getTime() - job.begunAt.getTime()),
  pid: job.owner?.pid,
  leaseUntil: job.leaseUntil?.toISOString(),
  waitsFor: job.waitsFor,
  cancel: job.cancel === undefined ? undefined : { by: job.cancel.by, at: job.cancel.at.toISOString() },
  held: job.claims.map(heldStatus),
  outcome: job.outcome,
})

const shownIn = (job: JournaledJob): Pick<JobStatus, 'directory' | 'until'> => {
  const lease = leaseOf(job)
  return lease === undefined ? {} : { directory: lease.directory, until: lease.until }
}

const heldStatus = (claim: JournaledClaim): HeldStatus => ({
  claim: claim.id,
  kind: claim.kind,
  what: claimInWords(claim),
  certain: claim.state === 'confirmed',
  since: claim.intendedAt?.toISOString(),
  attempts: claim.attempts,
  reason: claim.keptReason,
  triedAt: claim.keptAt?.toISOString(),
})
