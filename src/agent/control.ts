import type {
  AgentControl,
  AgentEvent,
  AgentStatusView,
  CanceledView,
  Caller,
  HistoryQuery,
  JobView,
  MetricFacts,
  PlanView,
  PointQueryView,
  RunRequest,
  StartedRuns,
} from '../api/index.ts'
import { type Abortable, AgentError, isAgentError, type PointSummary, type RunRecord, type VmRef } from '../core/index.ts'
import { locateVms, selectVms } from '../inventory/index.ts'
import { type Place, vmOf } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import { cancelJobs } from './cancel-jobs.ts'
import { checkedPlace } from './check-record.ts'
import type { AgentConfig } from './config/config.ts'
import { formatWindow } from './config/windows.ts'
import type { Dispatcher } from './dispatcher.ts'
import { allReadSince } from './due-check.ts'
import type { EventHub } from './event-hub.ts'
import { nextOfJobs } from './job-list.ts'
import type { Member } from './job-members.ts'
import { namedJobs } from './named-jobs.ts'
import { runPlan } from './plan-run.ts'
import type { QueuedRun } from './queued-run.ts'
import type { Reloaded } from './reload.ts'
import { progressOf } from './run-queued.ts'
import type { RunTotals } from './run-totals.ts'
import { readStatus } from './status.ts'

export type ControlParts = {
  readonly agent: Agent
  readonly dispatcher: Dispatcher
  readonly events: EventHub
  readonly totals: RunTotals
  readonly reload: () => Promise<Reloaded>
  readonly version: string
}

/** Finished jobs of the journal that a status shows. */
const FINISHED = 10
const ROWS = 100
/** Of runs of which nothing is known, ms; as `vcb plan` assumes. */
const TAKES = Object.freeze({ full: 60 * 60_000, incremental: 10 * 60_000 })

/** What the control API may see and do of a running agent. */
export function createControl(parts: ControlParts): AgentControl {
  const { agent, dispatcher, events } = parts
  const since = agent.clock.now().toISOString()
  return {
    status: () => status(parts, since),
    jobs: () => jobs(parts),
    history: ({ since: from, until, limit, ...query }: HistoryQuery) =>
      agent.history.find({ ...query, since: dateOf(from), until: dateOf(until), limit: limit ?? ROWS }),
    plan: (range) => plan(agent, range),
    points: (query) => points(agent, query),
    run: (request, by) => run(parts, request, by),
    cancel: (target, by) => cancel(parts, target, by),
    drain: (on) => Promise.resolve(dispatcher.drain(on)),
    reload: () => parts.reload(),
    events: (options: Abortable): AsyncIterable<AgentEvent> => events.listen(options),
    facts: () => facts(parts),
  }
}

async function status({ agent, dispatcher, version }: ControlParts, since: string): Promise<AgentStatusView> {
  const { journal, buckets, clock, processes, marks, checks, renewals, catalog } = agent
  const report = await readStatus(
    { journal, buckets, clock, checks, renewals, catalog, isAlive: (owner) => processes.isAlive(owner) },
    FINISHED,
  )
  return {
    agent: marks.agent,
    version,
    pid: process.pid,
    since,
    draining: dispatcher.draining,
    waiting: dispatcher.waiting.map((queued) => ({
      ...whoOf(queued),
      dueAt: new Date(queued.due.dueAt).toISOString(),
      since: queued.since.toISOString(),
      reason: queued.due.reason,
      waitsFor: queued.waitsFor,
    })),
    running: dispatcher.running.map((queued) => ({
      ...whoOf(queued),
      begunAt: (queued.begunAt ?? queued.since).toISOString(),
      progress: queued.disks.size === 0 ? undefined : progressOf(queued),
    })),
    // As `--json` prints it.
    journal: JSON.parse(JSON.stringify(report)),
  }
}

const whoOf = ({ run, job, due, mode }: QueuedRun) => ({
  run,
  job: job?.name,
  vm: due.vm,
  mode: mode === 'auto' ? undefined : mode,
})

async function jobs({ agent, dispatcher }: ControlParts): Promise<readonly JobView[]> {
  const { config, members } = dispatcher
  const known = Map.groupBy(members.all, ({ job }) => job.name)
  const lines = nextOfJobs(config.jobs, agent.clock.now())
  return Promise.all(
    lines.map(async ({ job, next }): Promise<JobView> => {
      const [last] = await agent.history.find({ job: job.name, limit: 1 })
      const { timeZone, cron, rpoMs, windows, priority } = job.schedule
      const error = members.errors.get(job.name)
      return {
        name: job.name,
        select: job.select,
        repository: job.repository,
        copyTo: job.copyTo,
        next: next?.toISOString(),
        timeZone,
        cron,
        rpoMs,
        windows: windows.map(formatWindow),
        priority,
        last: last && { at: last.endedAt, result: last.result },
        vms: known.get(job.name)?.map((member) => jobVm(agent, member)),
        error: error && { code: error.code, message: error.message, next: error.next, subject: error.subject },
      }
    }),
  )
}

function jobVm({ clock }: Agent, { vm, record, planner }: Member): NonNullable<JobView['vms']>[number] {
  const now = clock.now().getTime()
  const due = planner.due(record, now)
  const next = due === undefined ? planner.next(record, now) : now
  const then = due ?? (next === undefined ? undefined : planner.due(record, next))
  return {
    vm,
    lastGoodAt: textOf(record.lastGoodAt),
    next: textOf(next),
    mode: then?.mode,
    reason: then?.reason,
    deadline: record.lastGoodAt === undefined ? undefined : textOf(planner.deadline(record)),
  }
}

async function plan(agent: Agent, range: { readonly from: Date; readonly to: Date; readonly job?: string | undefined }): Promise<PlanView> {
  const { from, to, job } = range
  const made = await runPlan(agent, { from, to, jobs: job === undefined ? [] : [job], vms: [], takes: TAKES })
  const runOf = ({ dueAt, begunAt, endedAt, deadline, openUntil, ...each }: (typeof made.runs)[number]): PlanView['runs'][number] => ({
    job: each.job,
    vm: each.vm,
    mode: each.mode,
    reason: each.reason,
    dueAt: at(dueAt),
    begunAt: at(begunAt),
    endedAt: at(endedAt),
    deadline: textOf(deadline),
    windowCloses: textOf(openUntil),
  })
  return {
    from: from.toISOString(),
    to: to.toISOString(),
    runs: made.runs.map(runOf),
    misses: made.misses.map((miss) => ({ job: miss.job, vm: miss.vm, from: at(miss.from), to: at(miss.to) })),
    overruns: made.overruns.map(runOf),
    left: made.left,
    empty: made.empty.map(({ job: name, error }) => ({ job: name, error: { code: error.code, message: error.message, next: error.next } })),
    assumed: made.assumed,
  }
}

async function points(
  { catalog }: Agent,
  { vm, repository, since, until, limit = ROWS }: PointQueryView,
): Promise<readonly PointSummary[]> {
  const query = { repository, since, until, limit }
  if (vm === undefined) return catalog.find(query)
  const named = await catalog.find({ ...query, vmName: vm })
  return named.length > 0 ? named : catalog.find({ ...query, instanceUuid: vm })
}

async function run({ agent, dispatcher }: ControlParts, request: RunRequest, by: Caller): Promise<StartedRuns> {
  if (dispatcher.draining) {
    throw new AgentError('CONFLICT', 'The agent begins nothing new.', {
      next: 'Let it begin again with "vcb drain --off", or ask another one.',
    })
  }
  const [job] = request.job === undefined ? [] : namedJobs(dispatcher.config, [request.job])
  const vsphere = await agent.vsphere()
  const options = { bulk: true, signal: agent.signal }
  const ofJob = job === undefined ? undefined : await selectVms(vsphere, job.select, options)
  const selected = request.select === undefined ? ofJob : await selectVms(vsphere, request.select, options)
  const morefs = new Set(ofJob?.map(({ moref }) => moref))
  const vms = (selected ?? []).filter(({ moref }) => ofJob === undefined || morefs.has(moref))
  if (vms.length === 0) throw new AgentError('NOT_FOUND', `No VM of the job ${job?.name} is among those selected.`, { subject: job?.name })
  const places = await locateVms(vsphere, { signal: agent.signal })
  const known = new Map(dispatcher.members.all.map((member) => [vmOf(member), member.place]))
  const placeOf = (vm: VmRef): Place => {
    const { host, datastores = [] } = places.get(vm.moref) ?? {}
    return { vcenter: vm.vcenterUuid, host, datastores, apart: known.get(vmOf({ vm }))?.apart ?? [] }
  }
  const runs = dispatcher.ask(
    vms.map((vm) => ({ vm, place: placeOf(vm) })),
    { job, mode: request.mode, by: by.name },
  )
  return { runs }
}

async function cancel({ agent, dispatcher }: ControlParts, target: string, by: Caller): Promise<readonly CanceledView[]> {
  const canceled: CanceledView[] = []
  for (const queued of dispatcher.waiting) {
    const { vm } = queued.due
    if (![queued.run, vm.name, vm.instanceUuid, vm.moref, vm.path].includes(target)) continue
    if (await dispatcher.cancelWaiting(queued, `${by.name} canceled it before it began.`))
      canceled.push({ id: queued.run, kind: 'backup', subject: vm.name, ended: true })
  }
  const { journal, clock, processes } = agent
  try {
    const asked = await cancelJobs({ journal, clock, isAlive: (owner) => processes.isAlive(owner) }, target, { wait: false })
    canceled.push(...asked.map(({ job, kind, subject, ended }) => ({ id: job, kind, subject, ended })))
  } catch (error) {
    if (canceled.length === 0 || !isAgentError(error, 'NOT_FOUND')) throw error
  }
  return canceled
}

async function facts({ agent, dispatcher, totals }: ControlParts): Promise<MetricFacts> {
  const limits = await agent.buckets.inUse()
  return {
    vms: dispatcher.members.all.map(({ job, vm, record }) => ({
      vm,
      job: job.name,
      lastGoodAt: record.lastGoodAt,
      rpoMs: job.schedule.rpoMs,
      last: lastOf(dispatcher.members.records?.lastOf(job.name, vm)),
    })),
    jobs: totals.facts,
    queue: { waiting: dispatcher.waiting.length, running: dispatcher.running.length },
    limits: limits.map(({ name, limit, uses }) => ({
      name,
      limit,
      used: uses.filter(({ waits }) => !waits).length,
      waiting: uses.filter(({ waits }) => waits).length,
    })),
    repositories: await repositoryFacts(agent, dispatcher.config),
    draining: dispatcher.draining,
  }
}

async function repositoryFacts(agent: Agent, { repositories }: AgentConfig): Promise<MetricFacts['repositories']> {
  const [counts, checks, renewals] = await Promise.all([agent.catalog.counts(), agent.checks.all(), agent.renewals.all()])
  return repositories.map(({ name, url }) => {
    const place = checkedPlace(url)
    const record = checks.get(place)
    const locks = renewals.get(place)
    return {
      name,
      bytes: record?.size?.bytes,
      unknownBytes: record?.size?.unknownBytes,
      unusedBytes: record?.size?.unusedBytes,
      points: counts.get(place) ?? 0,
      structureAt: momentOf(record?.structureAt ?? undefined),
      dataSince: momentOf(record && allReadSince(record)),
      problems: record?.problems.length,
      renewedAt: momentOf(locks?.renewedAt),
      shortPoints: locks?.short,
    }
  })
}

const momentOf = (text: string | undefined): number | undefined => (text === undefined ? undefined : Date.parse(text))

function lastOf(record: RunRecord | undefined): MetricFacts['vms'][number]['last'] {
  if (record === undefined) return undefined
  const { result, readBytes, storedBytes, snapshotLifetimeMs, frozenMs, begunAt, endedAt } = record
  return { result, readBytes, storedBytes, snapshotLifetimeMs, frozenMs, tookMs: Math.max(0, Date.parse(endedAt) - Date.parse(begunAt)) }
}

const at = (ms: number): string => new Date(ms).toISOString()
const textOf = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : at(ms))
const dateOf = (text: string | undefined): Date | undefined => (text === undefined ? undefined : new Date(text))
