import type { AgentError, BackupMode, VmRef } from '../core/index.ts'
import { createDuePlanner, type DuePlanner, type VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import type { JobConfig } from './config/jobs.ts'
import { resolveJobs } from './job-vms.ts'
import { namedJobs } from './named-jobs.ts'

export type JobLine = {
  readonly job: JobConfig
  /** When a VM with a good point of just now is backed up next; undefined: only when asked to. */
  readonly next: Date | undefined
  /** Undefined unless the selection was to be resolved. */
  readonly vms: readonly VmLine[] | undefined
  /** Why its selection names no VM. */
  readonly error: AgentError | undefined
}

export type VmLine = {
  readonly vm: VmRef
  readonly lastGoodAt: Date | undefined
  /** Now, where it is due. */
  readonly next: Date | undefined
  readonly mode: BackupMode | undefined
  readonly reason: string | undefined
  /** When the RPO is missed unless a good point comes first; may lie in the past. Undefined without an RPO, and without a point that could grow old. */
  readonly deadline: Date | undefined
}

/** The jobs, and with `vms` the VMs of each as vCenter answers now. NOT_FOUND for a job there is not. */
export async function listJobs(
  agent: Agent,
  { names, vms }: { readonly names: readonly string[]; readonly vms: boolean },
): Promise<readonly JobLine[]> {
  const jobs = namedJobs(agent.config, names)
  if (!vms) return nextOfJobs(jobs, agent.clock.now())
  const now = agent.clock.now()
  const resolved = (await resolveJobs(agent, jobs, now)).jobs
  return resolved.map(({ job, vms: members, error }): JobLine => {
    const planner = createDuePlanner(job.name, job.schedule)
    return { job, next: nextOf(planner, now), vms: members.map(({ record }) => vmLine(planner, record, now)), error }
  })
}

/** When each runs next, without asking which VMs it has. */
export const nextOfJobs = (jobs: readonly JobConfig[], now: Date): readonly JobLine[] =>
  jobs.map((job) => ({ job, next: nextOf(createDuePlanner(job.name, job.schedule), now), vms: undefined, error: undefined }))

function nextOf(planner: DuePlanner, now: Date): Date | undefined {
  const at = now.getTime()
  const vm: VmRef = { moref: '', name: '', instanceUuid: '', biosUuid: '', vcenterUuid: '', path: '' }
  return dateOf(planner.next({ vm, knownSince: at, lastGoodAt: at, lastFullAt: at, runs: [], expectMs: undefined }, at))
}

function vmLine(planner: DuePlanner, record: VmRecord, now: Date): VmLine {
  const at = now.getTime()
  const due = planner.due(record, at)
  const next = due === undefined ? planner.next(record, at) : at
  const then = due ?? (next === undefined ? undefined : planner.due(record, next))
  return {
    vm: record.vm,
    lastGoodAt: dateOf(record.lastGoodAt),
    next: dateOf(next),
    mode: then?.mode,
    reason: then?.reason,
    deadline: record.lastGoodAt === undefined ? undefined : dateOf(planner.deadline(record)),
  }
}

const dateOf = (ms: number | undefined): Date | undefined => (ms === undefined ? undefined : new Date(ms))
