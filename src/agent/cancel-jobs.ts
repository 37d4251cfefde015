import { userInfo } from 'node:os'
import { type Abortable, AgentError, type Clock, type JobId, throwIfAborted } from '../core/index.ts'
import { AGENT_JOB } from './agent-lock.ts'
import { type JobOutcome, jobSubject, type Journal, type JournaledJob, optional, type ProcessIdentity } from '../journal/index.ts'

export type CancelDeps = {
  readonly journal: Journal
  readonly isAlive: (owner: ProcessIdentity) => Promise<boolean>
  readonly clock: Clock
}

/** One job that was asked to end. `outcome` and `held` are known only after waiting for it. */
export type CanceledJob = {
  readonly job: JobId
  readonly kind: string
  readonly subject: string | undefined
  readonly pid: number
  readonly ended: boolean
  readonly outcome?: JobOutcome | undefined
  /** How many claims it left for recovery. */
  readonly held?: number | undefined
}

type Owned = JournaledJob & { readonly owner: ProcessIdentity }

/** How often a wait looks whether the jobs have ended. ms */
const LOOK_EVERY = 500

/**
 * Asks running jobs to end: a job, all jobs of a run, the jobs of a VM, or all (`target` undefined). With `wait` it returns when they have ended.
 * NOT_FOUND when nothing fits; CONFLICT when what fits is nobody's any more and has to be recovered, or is a lease.
 */
export async function cancelJobs(
  deps: CancelDeps,
  target: string | undefined,
  options: Abortable & { readonly wait: boolean },
): Promise<readonly CanceledJob[]> {
  const open = await deps.journal.unfinished()
  // All that runs, but not the agent that would begin the next ones: that one is named, or ended by a signal.
  const fitting = target === undefined ? open.filter(({ kind }) => kind !== AGENT_JOB) : matching(open, target)
  const running: Owned[] = []
  for (const job of fitting) {
    const { owner } = job
    if (owner !== undefined && (await deps.isAlive(owner))) running.push({ ...job, owner })
  }
  if (running.length === 0 && target !== undefined) throw nothingRuns(target, fitting[0], deps.clock)
  const asked: Owned[] = []
  const by = `"vcb cancel" of ${userInfo().username}`
  for (const job of running) if (await deps.journal.requestCancel(job.id, by)) asked.push(job)
  if (!options.wait) return asked.map((job) => told(job, { ended: false }))
  return ends(deps, asked, options)
}

/** A job by id or the beginning of it (6 characters or more); a run by its id; a VM by name, path or uuid. */
function matching(open: readonly JournaledJob[], target: string): readonly JournaledJob[] {
  const exact = open.filter(({ id, args }) =>
    [id, optional(args, 'run'), ...['name', 'instanceUuid', 'path', 'moref'].map((of) => optional(args, 'vm', of))].includes(target),
  )
  if (exact.length > 0) return exact
  const other = open.filter(({ args }) => jobSubject(args) === target)
  if (other.length > 0) return other
  const begun =
    target.length < 6 ? [] : open.filter(({ id, args }) => id.startsWith(target) || optional(args, 'run')?.startsWith(target) === true)
  if (new Set(begun.map(({ id, args }) => optional(args, 'run') ?? id)).size > 1) {
    throw new AgentError('USAGE', `"${target}" is the beginning of several jobs.`, { subject: target, next: 'Give more of the id.' })
  }
  return begun
}

function nothingRuns(target: string, dead: JournaledJob | undefined, clock: Clock): AgentError {
  if (dead === undefined) {
    return new AgentError('NOT_FOUND', `No job, run or VM of a running job is named ${target}.`, {
      subject: target,
      next: 'Run "vcb status", which lists what runs.',
    })
  }
  if (dead.leaseUntil !== undefined && dead.leaseUntil > clock.now()) {
    return new AgentError(
      'CONFLICT',
      `The ${dead.kind} job ${dead.id} is a lease until ${dead.leaseUntil.toISOString()}; nothing of it runs.`,
      {
        subject: target,
        next: 'End the lease with the command that made it, or wait until it runs out.',
      },
    )
  }
  return new AgentError('CONFLICT', `The process of the ${dead.kind} job ${dead.id} has ended already; what it held is not released yet.`, {
    subject: target,
    next: `Run "vcb recover --job ${dead.id}", which releases it.`,
  })
}

/** Waits until no living process answers for any of the jobs. */
async function ends({ journal, isAlive, clock }: CancelDeps, asked: readonly Owned[], options: Abortable): Promise<readonly CanceledJob[]> {
  for (;;) {
    const open = new Map((await journal.unfinished()).map((job) => [job.id, job]))
    let running = false
    for (const job of asked) {
      const owner = open.get(job.id)?.owner
      running ||= owner !== undefined && (await isAlive(owner))
    }
    if (!running) {
      const finished = new Map((await journal.finished(1000)).map((job) => [job.id, job.outcome]))
      return asked.map((job) => {
        const left = open.get(job.id)
        return told(job, { ended: true, outcome: left?.outcome ?? finished.get(job.id), held: left?.claims.length ?? 0 })
      })
    }
    throwIfAborted(options)
    await clock.sleep(LOOK_EVERY, options)
  }
}

const told = (job: Owned, what: Pick<CanceledJob, 'ended' | 'outcome' | 'held'>): CanceledJob => ({
  job: job.id,
  kind: job.kind,
  subject: jobSubject(job.args),
  pid: job.owner.pid,
  ...what,
})
