import { AgentError, type BackupMode, type VmRef } from '../core/index.ts'
import { selectVms } from '../inventory/index.ts'
import { createDuePlanner, type RpoMiss, simulate, type SimulatedJob, type SimulatedRun, vmOf } from '../schedule/index.ts'
import { DEFAULT_LIMITS } from '../transport/index.ts'
import type { Agent } from './agent.ts'
import { resolveJobs, type ResolvedJob } from './job-vms.ts'
import { namedJobs } from './named-jobs.ts'

export type PlanRequest = {
  readonly from: Date
  readonly to: Date
  /** Only what these jobs do is told; all of them when empty. What the others do counts all the same. */
  readonly jobs: readonly string[]
  /** Likewise of VMs these expressions name. Not with `offline`. */
  readonly vms: readonly string[]
  /** So many VMs are assumed of each job, and vCenter is not asked. */
  readonly offline?: number | undefined
  /** How long a run takes of which nothing is known, ms. */
  readonly takes: Readonly<Record<BackupMode, number>>
}

export type RunPlan = {
  readonly runs: readonly SimulatedRun[]
  readonly misses: readonly RpoMiss[]
  /** Those that do not end before the window closes in which they begin. */
  readonly overruns: readonly SimulatedRun[]
  /** VMs that have no run although their job has moments in the time: no window, or no place, came for them. */
  readonly left: readonly { readonly job: string; readonly vm: VmRef }[]
  /** Jobs whose selection names nothing. */
  readonly empty: readonly { readonly job: string; readonly error: AgentError }[]
  /** What was taken for granted, in sentences. */
  readonly assumed: readonly string[]
}

/**
 * What will run when, by the code that decides it: the selections as vCenter answers now, records from the catalog, durations from the journal. Begins
 * now where `from` is later, so that what is missed now shows. Changes nothing. NOT_FOUND for a job there is not, USAGE for more runs than anybody reads.
 */
export async function runPlan(agent: Agent, request: PlanRequest): Promise<RunPlan> {
  const { config, clock } = agent
  const { from, to, takes, offline } = request
  const told = new Set(namedJobs(config, request.jobs).map(({ name }) => name))
  const all = namedJobs(config)
  const begin = offline === undefined && clock.now() < from ? clock.now() : from
  const assumed: string[] = []
  const online = offline === undefined ? await resolveJobs(agent, all, begin) : undefined
  const resolved =
    online?.jobs ?? all.map((job): ResolvedJob => ({ job, vms: assumedVms(job.name, offline ?? 0, begin), error: undefined }))
  if (offline !== undefined)
    assumed.push(
      `each job has ${offline} ${offline === 1 ? 'VM' : 'VMs'} without an earlier backup, and none gets in another's way on a host or datastore`,
    )

  refuseTooMany(resolved, begin, to)
  const unknown = new Set(resolved.flatMap(({ vms }) => vms.filter(({ record }) => record.lastGoodAt === undefined).map(vmOf))).size
  if (online !== undefined && unknown > 0) {
    assumed.push(
      `${unknown} ${unknown === 1 ? 'VM was' : 'VMs were'} never backed up, because the catalog of this proxy knows no point of ${unknown === 1 ? 'it' : 'them'}`,
    )
  }
  const guessed = { full: new Set<string>(), incremental: new Set<string>() }
  const howLong = (vm: VmRef, mode: BackupMode): number => {
    const known = online?.history.tookMs(vm, mode)
    if (known === undefined) guessed[mode].add(vmOf({ vm }))
    return known ?? takes[mode]
  }
  const jobs = resolved.map(({ job, vms }): SimulatedJob => ({ name: job.name, schedule: job.schedule, vms }))
  const datastore = config.limits.snapshotsPerDatastore ?? DEFAULT_LIMITS.snapshotsPerDatastore
  const { runs, misses } = simulate(jobs, { from: begin.getTime(), to: to.getTime(), room: { proxy: config.parallel, datastore }, howLong })
  for (const mode of ['full', 'incremental'] as const) {
    const { size } = guessed[mode]
    if (size > 0)
      assumed.push(
        `${mode === 'full' ? 'a full' : 'an incremental'} run takes ${minutes(takes[mode])} for ${size} ${size === 1 ? 'VM' : 'VMs'} of which no such run is known`,
      )
  }
  assumed.push('every run succeeds')

  const wanted = await wantedVms(agent, request)
  const isTold = ({ job, vm }: { readonly job: string; readonly vm: VmRef }): boolean =>
    told.has(job) && (wanted === undefined || wanted.has(vm.moref))
  const shown = runs.filter((run) => isTold(run) && run.endedAt > from.getTime()).toSorted((a, b) => a.begunAt - b.begunAt)
  const ran = new Set(runs.map(({ job, vm }) => `${job} ${vmOf({ vm })}`))
  return {
    runs: shown,
    misses: misses.filter((miss) => isTold(miss) && miss.to > from.getTime()).toSorted((a, b) => a.from - b.from),
    overruns: shown.filter(({ openUntil, endedAt }) => openUntil !== undefined && endedAt > openUntil),
    left: resolved
      .flatMap(({ job, vms }) => {
        const planner = createDuePlanner(job.name, job.schedule)
        // Not even asked to: a job without moments, or whose next one comes later.
        const isDue = ({ record }: ResolvedJob['vms'][number]): boolean =>
          planner.due(record, begin.getTime()) !== undefined ||
          (planner.next(record, begin.getTime()) ?? Number.POSITIVE_INFINITY) < to.getTime()
        return vms.filter((each) => isDue(each) && !ran.has(`${job.name} ${vmOf(each)}`)).map(({ vm }) => ({ job: job.name, vm }))
      })
      .filter(isTold),
    empty: resolved.flatMap(({ job, error }) => (error === undefined || !told.has(job.name) ? [] : [{ job: job.name, error }])),
    assumed,
  }
}

/** Half a million runs take seconds; this many, a minute and a gigabyte. */
const MOST_RUNS = 2_000_000

/** By the moments of VMs whose runs take no time and always succeed. USAGE. */
function refuseTooMany(resolved: readonly ResolvedJob[], from: Date, to: Date): void {
  let runs = 0
  for (const { job, vms } of resolved) {
    const planner = createDuePlanner(job.name, job.schedule)
    const [first] = vms
    if (first === undefined) continue
    let at: number | undefined = from.getTime()
    while (at !== undefined && at < to.getTime()) {
      runs += vms.length
      if (runs > MOST_RUNS) {
        throw new AgentError(
          'USAGE',
          `The plan has more than ${MOST_RUNS} runs, the first of them until ${new Date(at).toISOString()} in the job ${job.name}.`,
          {
            subject: job.name,
            next: 'Give an earlier --to.',
          },
        )
      }
      at = planner.next({ vm: first.vm, knownSince: at, lastGoodAt: at, lastFullAt: at, runs: [], expectMs: undefined }, at)
    }
  }
}

async function wantedVms(agent: Agent, { vms, offline }: PlanRequest): Promise<ReadonlySet<string> | undefined> {
  if (vms.length === 0 || offline !== undefined) return undefined
  const selected = await selectVms(await agent.vsphere(), vms, { bulk: true, signal: agent.signal })
  return new Set(selected.map(({ moref }) => moref))
}

function assumedVms(job: string, count: number, at: Date): ResolvedJob['vms'] {
  return Array.from({ length: count }, (_, index) => {
    const name = `${job}-${index + 1}`
    const vm: VmRef = { moref: name, name, instanceUuid: name, biosUuid: name, vcenterUuid: '', path: `/${name}` }
    const record = { vm, knownSince: at.getTime(), lastGoodAt: undefined, lastFullAt: undefined, runs: [], expectMs: undefined }
    return { vm, record, place: { vcenter: '', host: undefined, datastores: [], apart: [] } }
  })
}

const minutes = (ms: number): string => (ms < 60_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`)
