import type { Clock, JobId, Log } from '../core/index.ts'
import type { Journal, JournaledClaim, JournaledJob } from './journal.ts'
import type { ProcessIdentity } from './process.ts'
import { claimsElsewhere, isAllElsewhere } from './local-claims.ts'
import { claimReport, type ClaimReport, type ReleaseLimit, releaseClaims } from './release-claims.ts'
import type { Releasers } from './releasers.ts'

export type RecoverOptions = {
  readonly journal: Journal
  readonly releasers: Releasers
  /** `Processes.isAlive`. */
  readonly isAlive: (owner: ProcessIdentity) => Promise<boolean>
  readonly clock: Clock
  readonly log: Log
  /** Ends the recovery: what is not released by then stays listed. */
  readonly limit?: ReleaseLimit | undefined
  /** Only this job; all otherwise. */
  readonly job?: JobId | undefined
  /** Name of this machine, where the journal is that of several proxies. What a job of another machine holds there is kept for it. */
  readonly host?: string | undefined
  /** Whether something that a job of another machine holds there is here as well: on storage that both mount at one place. Never fails; never where absent. */
  readonly isHereToo?: ((claim: JournaledClaim) => Promise<boolean>) | undefined
}

/**
 * What is not found so soon after it was tried is looked for once more: a request of a proxy that died, or was cut off, may still be under way. From the intent, by the
 * clock of the proxy that wrote it. Milliseconds.
 */
export const LATE_MS = 45_000

/** What became of one job nobody answered for. Closed when no claim of it is kept. */
export type RecoveredJob = {
  readonly job: JobId
  readonly kind: string
  readonly args: unknown
  readonly begunAt: Date
  readonly closed: boolean
  readonly claims: readonly ClaimReport[]
}

export type RecoveryReport = {
  readonly recovered: readonly RecoveredJob[]
  /** Open jobs that were left alone, and why: a living process or a valid lease answers for them. */
  readonly untouched: readonly { readonly job: JobId; readonly kind: string; readonly reason: string }[]
}

/**
 * Releases what dead processes left: every open job whose owner is gone and whose lease, if it had one, has run out. Safe to run at any
 * time, by several processes at once and again after it was itself killed; claims that cannot be released yet stay listed.
 * Called at the agent's start, by its timer and by `vcb recover`. Throws only when the journal itself cannot be read or written.
 */
export async function recoverJobs(options: RecoverOptions): Promise<RecoveryReport> {
  const { journal, log } = options
  const recovered: RecoveredJob[] = []
  const untouched: { job: JobId; kind: string; reason: string }[] = []
  for (const job of await journal.unfinished()) {
    if (options.job !== undefined && options.job !== job.id) continue
    const reason = await answeredFor(job, options)
    if (reason !== undefined) {
      untouched.push({ job: job.id, kind: job.kind, reason })
    } else if (await journal.adopt(job.id, job.owner)) {
      recovered.push(await recoverJob(job, options))
    } else {
      untouched.push({ job: job.id, kind: job.kind, reason: 'another process is recovering it' })
    }
  }
  for (const claim of recovered.flatMap((job) => job.claims)) {
    if (claim.result === 'kept') log.warn('a claim could not be released', { ...claim, error: undefined })
    else log.info('released what a dead process held', { ...claim })
  }
  return { recovered, untouched }
}

async function answeredFor(job: JournaledJob, { isAlive, clock, host }: RecoverOptions): Promise<string | undefined> {
  if (job.leaseUntil !== undefined && job.leaseUntil > clock.now()) return `leased until ${job.leaseUntil.toISOString()}`
  if (job.owner !== undefined && (await isAlive(job.owner))) return `process ${job.owner.pid} is running it`
  if (isAllElsewhere(job, host) && job.claims.every(({ keptAt }) => keptAt !== undefined)) return `what it holds is on ${job.host}`
  return undefined
}

async function recoverJob(job: JournaledJob, { journal, releasers, limit, host, clock, isHereToo }: RecoverOptions): Promise<RecoveredJob> {
  // Read again: between listing and adopting, the dead owner's predecessor in recovery may have released some.
  const current = (await journal.unfinished()).find((open) => open.id === job.id)
  const elsewhere: JournaledClaim[] = []
  for (const claim of current === undefined ? [] : claimsElsewhere(current, host)) {
    if ((await isHereToo?.(claim)) !== true) elsewhere.push(claim)
  }
  const away: ClaimReport[] = []
  for (const claim of elsewhere) {
    const reason = `It is on ${job.host}, where vcb releases it.`
    if (claim.keptReason !== reason) await journal.kept(claim.id, reason)
    away.push({ ...claimReport(claim), result: 'kept', reason })
  }
  const ids = new Set(elsewhere.map(({ id }) => id))
  const here = (current?.claims ?? []).filter(({ id }) => !ids.has(id))
  const lateFrom = host === undefined ? undefined : new Date(clock.now().getTime() - LATE_MS)
  const claims = [...(await releaseClaims(journal, releasers, here, { ...limit, lateFrom }, elsewhere)), ...away]
  const closed = claims.every((claim) => claim.result !== 'kept')
  if (closed)
    await journal.finish(job.id, job.outcome ?? { result: 'recovered', reason: 'The process that ran it ended without closing it.' })
  else await journal.disown(job.id, undefined, job.outcome)
  return { job: job.id, kind: job.kind, args: job.args, begunAt: job.begunAt, closed, claims }
}

/** What a recovery could not release. */
export const keptOf = (report: RecoveryReport): readonly ClaimReport[] =>
  report.recovered.flatMap((job) => job.claims).filter((claim) => claim.result === 'kept')
