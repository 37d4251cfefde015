import { z } from 'zod'
import { AgentError, type Clock, type JobId } from '../core/index.ts'
import type { JobOutcome, Journal, JournaledJob, ProcessIdentity } from '../journal/index.ts'

/** The kind of job that holds a lease. */
export const MOUNT = 'mount'
/** Who asked, as it stands in the journal when `vcb unmount` did. */
export const BY_UNMOUNT = '"vcb unmount" of '

const processIdentity = z.object({ pid: z.number(), bootId: z.string(), startTime: z.number() })

/** What the row of a lease's job says of it; written before anything is done. */
const leaseArgs = z.object({
  vm: z.object({ name: z.string(), instanceUuid: z.string(), vcenterUuid: z.string() }),
  point: z.string().optional(),
  directory: z.string(),
  types: z.array(z.string()),
  until: z.string(),
  idleMs: z.number().optional(),
  owner: processIdentity.optional(),
  job: z.string().optional(),
  log: z.string().optional(),
})
export type LeaseArgs = z.infer<typeof leaseArgs>

const use = z.object({
  kind: z.enum(['disk', 'volume']),
  label: z.string(),
  bytes: z.number(),
  readBytes: z.number(),
  readTo: z.number(),
  readErrors: z.number(),
  readError: z.string().optional(),
})

/** What the outcome of a lease's job says: why it ended, whether by `vcb unmount`, and how its disks were read. */
const leaseFacts = z.object({
  endedBy: z.enum(['request', 'deadline', 'owner', 'idle', 'broken', 'lost']),
  unmounted: z.boolean(),
  reason: z.string(),
  disks: z.array(use),
})
export type LeaseFacts = z.infer<typeof leaseFacts>

/** Of a job that holds a lease; undefined for any other, and for one that another version wrote otherwise. */
export function leaseOf(job: Pick<JournaledJob, 'kind' | 'args'>): LeaseArgs | undefined {
  const parsed = job.kind === MOUNT ? leaseArgs.safeParse(job.args) : undefined
  return parsed?.data
}

export const factsOf = (outcome: JobOutcome | undefined): LeaseFacts | undefined => leaseFacts.safeParse(outcome?.facts).data

/** A directory as leases name it; undefined where not even its parent exists. */
export async function leaseDirectory(directory: string): Promise<string | undefined> {
  const { mountDirectoryPath } = await import('../flow/index.ts')
  try {
    return await mountDirectoryPath(directory)
  } catch (error) {
    if (error instanceof AgentError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}

/** `preparing`: not everything is there yet; `ending`: somebody asked for its end; `left`: its holder is dead, and what it held is not released yet. */
export type LeaseState = 'preparing' | 'ready' | 'ending' | 'left'

/** A lease as lists show it. */
export type LeaseStatus = {
  readonly lease: JobId
  readonly state: LeaseState
  readonly vm: string
  readonly point?: string | undefined
  readonly directory: string
  readonly types: readonly string[]
  readonly since: string
  readonly until: string
  readonly holder: number | undefined
  readonly owner?: number | undefined
  readonly job?: string | undefined
  /** Where its holder logs; absent when that is standard error. */
  readonly log?: string | undefined
}

/** Every lease that is not over, the oldest first. Reads the journal alone. */
export async function listLeases(deps: {
  readonly journal: Pick<Journal, 'unfinished'>
  readonly isAlive: (owner: ProcessIdentity) => Promise<boolean>
  readonly clock: Clock
}): Promise<readonly LeaseStatus[]> {
  const found: LeaseStatus[] = []
  for (const job of await deps.journal.unfinished()) {
    const lease = leaseOf(job)
    if (lease === undefined) continue
    const alive = job.owner !== undefined && (await deps.isAlive(job.owner))
    found.push({
      lease: job.id,
      state: stateOf(job, alive),
      vm: lease.vm.name,
      point: lease.point,
      directory: lease.directory,
      types: lease.types,
      since: job.begunAt.toISOString(),
      until: lease.until,
      holder: job.owner?.pid,
      owner: lease.owner?.pid,
      job: lease.job,
      log: lease.log,
    })
  }
  return found
}

function stateOf(job: JournaledJob, alive: boolean): LeaseState {
  if (!alive) return 'left'
  if (job.cancel !== undefined) return 'ending'
  const ready = job.claims.some(
    ({ kind, ref }) => kind === 'mountDirectory' && typeof ref === 'object' && ref !== null && 'ready' in ref && ref.ready === true,
  )
  return ready ? 'ready' : 'preparing'
}
