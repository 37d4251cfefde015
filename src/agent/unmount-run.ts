import { userInfo } from 'node:os'
import { AgentError, type Clock, type JobId, throwIfAborted } from '../core/index.ts'
import { claimInWords, type FinishedJob, type Journal, type JournaledJob, type ProcessIdentity } from '../journal/index.ts'
import type { Agent } from './agent.ts'
import { BY_UNMOUNT, factsOf, leaseDirectory, type LeaseFacts, leaseOf, MOUNT } from './lease.ts'

/** How often a lease's end is looked for, ms. */
const LOOK_MS = 200
/** Ended leases that are still known by their id. */
const REMEMBERED = 1000

/** What became of a lease, whoever ended it. */
export type Unmounted = {
  /** Undefined when there was nothing to end. */
  readonly lease: JobId | undefined
  readonly vm: string | undefined
  readonly directory: string | undefined
  /** This call, or one at the same time, ended it. False: it was over already. */
  readonly ended: boolean
  /** How its disks were read; undefined where nobody knows, because its holder had died. */
  readonly facts: LeaseFacts | undefined
  /** What is still held, in words. */
  readonly held: readonly string[]
  /** Why a copy that was made of it must not be trusted; undefined when nothing speaks against it. */
  readonly doubt: string | undefined
}

/**
 * Ends a lease by its id, or the beginning of one, or by its directory, and waits until everything of it is released. One whose holder has died is released here.
 * Idempotent: what is over already is success, but by its id the doubts about a lease are told again. Errors: USAGE (several fit), CANCELED.
 */
export async function runUnmount(agent: Agent, target: string, options: { readonly readAll: boolean }): Promise<Unmounted> {
  const { journal, processes, clock } = agent
  const open = await findOpen(journal, target)
  if (open === undefined) {
    const past = await findFinished(journal, target)
    if (past === undefined)
      return { lease: undefined, vm: undefined, directory: undefined, ended: false, facts: undefined, held: [], doubt: undefined }
    const facts = factsOf(past.outcome)
    return { ...named(past), ended: false, facts, held: [], doubt: doubtOf(past, facts, options.readAll) }
  }
  const isAlive = (one: ProcessIdentity): Promise<boolean> => processes.isAlive(one)
  const living = open.owner !== undefined && (await isAlive(open.owner))
  if (living) {
    await journal.requestCancel(open.id, `${BY_UNMOUNT}${userInfo().username}`)
    await untilEnded({ journal, clock, isAlive, signal: agent.signal }, open.id)
  }
  if ((await journal.unfinished()).some(({ id }) => id === open.id)) await agent.recover({ job: open.id })
  const left = (await journal.unfinished()).find(({ id }) => id === open.id)
  const outcome = left?.outcome ?? (await journal.finished(REMEMBERED)).find(({ id }) => id === open.id)?.outcome
  const facts = factsOf(outcome)
  const past = { id: open.id, kind: open.kind, args: open.args, outcome }
  return { ...named(open), ended: true, facts, held: (left?.claims ?? []).map(claimInWords), doubt: doubtOf(past, facts, options.readAll) }
}

async function findOpen(journal: Pick<Journal, 'unfinished'>, target: string): Promise<JournaledJob | undefined> {
  const leases = (await journal.unfinished()).filter(({ kind }) => kind === MOUNT)
  const byId = leases.filter(({ id }) => fits(id, target))
  if (byId.length > 1) {
    throw new AgentError('USAGE', `"${target}" is the beginning of several leases.`, { subject: target, next: 'Give more of the id.' })
  }
  if (byId[0] !== undefined) return byId[0]
  const path = await leaseDirectory(target)
  return leases.find((job) => leaseOf(job)?.directory === path)
}

const findFinished = async (journal: Pick<Journal, 'finished'>, target: string): Promise<FinishedJob | undefined> =>
  (await journal.finished(REMEMBERED)).find(({ kind, id }) => kind === MOUNT && fits(id, target))

const fits = (id: string, target: string): boolean => id === target || (target.length >= 6 && id.startsWith(target))

const named = (job: Pick<JournaledJob, 'id' | 'kind' | 'args'>): Pick<Unmounted, 'lease' | 'vm' | 'directory'> => {
  const lease = leaseOf(job)
  return { lease: job.id, vm: lease?.vm.name, directory: lease?.directory }
}

/** Waits until no living process answers for the job. */
async function untilEnded(
  deps: {
    readonly journal: Pick<Journal, 'unfinished'>
    readonly clock: Clock
    readonly isAlive: (one: ProcessIdentity) => Promise<boolean>
    readonly signal: AbortSignal
  },
  job: JobId,
): Promise<void> {
  for (;;) {
    const owner = (await deps.journal.unfinished()).find(({ id }) => id === job)?.owner
    if (owner === undefined || !(await deps.isAlive(owner))) return
    throwIfAborted(deps)
    await deps.clock.sleep(LOOK_MS, deps)
  }
}

/** What a copy of the lease's disks must not be trusted for. */
function doubtOf(
  job: Pick<FinishedJob, 'id' | 'kind' | 'args'> & { readonly outcome: FinishedJob['outcome'] | undefined },
  facts: LeaseFacts | undefined,
  readAll: boolean,
): string | undefined {
  const broken = facts?.disks.find(({ readErrors }) => readErrors > 0)
  if (broken !== undefined) return `A reader of ${broken.label} got an error instead of data: ${broken.readError ?? 'unknown'}`
  if (facts === undefined) return `The lease ended before it was unmounted: ${job.outcome?.reason ?? 'its holder had died.'}`
  if (!facts.unmounted) return `The lease ended before it was unmounted: ${facts.reason}`
  const short = readAll ? facts.disks.find(({ kind, readTo, bytes }) => kind === 'disk' && readTo < bytes) : undefined
  return short === undefined ? undefined : `${short.label} was read up to byte ${short.readTo} of ${short.bytes} only.`
}
