import { type Abortable, type AgentError, toAgentError, type VmRef } from '../core/index.ts'
import { selectVms } from '../inventory/index.ts'
import type { Coverage, CoveredVm, JobProblem } from '../notices/index.ts'
import { vmOf } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import type { Member } from './job-members.ts'

/** A VM of a job and what is known of it. */
export type JobMember = Pick<Member, 'job' | 'vm' | 'record' | 'planner'>

/** The VMs of jobs; `errors`: jobs whose selection names none. `known` false: vCenter has not answered yet. */
export type JobsSeen = {
  readonly known: boolean
  readonly members: readonly JobMember[]
  readonly errors: ReadonlyMap<string, Pick<AgentError, 'message'>>
}

/** A job that is due for so long without a run has a problem, ms. */
const LATE_MS = 3_600_000

/** The VMs of the jobs with their last good points, as the agent follows them. `noRpoAgeMs`: what is allowed where no job has an RPO. */
export function coveredVms(members: readonly JobMember[], noRpoAgeMs: number): readonly CoveredVm[] {
  return [...Map.groupBy(members, vmOf).values()].flatMap((same): readonly CoveredVm[] => {
    const [first] = same
    if (first === undefined) return []
    const rpos = same.flatMap(({ job }) => job.schedule.rpoMs ?? [])
    const good = same.flatMap(({ record }) => record.lastGoodAt ?? [])
    return [
      {
        vm: first.vm,
        jobs: same.map(({ job }) => job.name),
        lastGoodAt: good.length === 0 ? undefined : new Date(Math.max(...good)),
        allowedAgeMs: rpos.length === 0 ? noRpoAgeMs : Math.min(...rpos),
        hasRpo: rpos.length > 0,
        knownSince: new Date(Math.min(...same.map(({ record }) => record.knownSince))),
      },
    ]
  })
}

/** Jobs that name no VM, and those that are due for an hour and have not run since, not even in vain: drained, too little room, no proxy that serves them. */
export function jobProblems({ members, errors }: JobsSeen, now: number): readonly JobProblem[] {
  const empty = [...errors].map(([job, { message }]) => ({ job, what: 'has no VM', reason: message }))
  const idle = [...Map.groupBy(members, ({ job }) => job.name)].flatMap(([job, all]): readonly JobProblem[] => {
    const dues = all.map(({ planner, record }) => ({ due: planner.due(record, now), lastBegun: record.runs[0]?.begunAt ?? 0 }))
    const since = Math.min(...dues.map(({ due }) => due?.dueAt ?? Number.POSITIVE_INFINITY))
    const waits = dues.every(({ due, lastBegun }) => due !== undefined && lastBegun < due.dueAt)
    if (!waits || since + LATE_MS >= now) return []
    return [{ job, what: 'has not run', reason: `It is due since ${new Date(since).toISOString()}, and no run of it has begun since.` }]
  })
  return [...empty, ...idle]
}

/** With the VMs of vCenter that no job names; where it does not answer, that is told instead. */
export async function coverageOf(agent: Agent, seen: JobsSeen, noRpoAgeMs: number, options: Abortable = {}): Promise<Coverage> {
  const at = agent.clock.now()
  const covered = coveredVms(seen.members, noRpoAgeMs)
  const problems = jobProblems(seen, at.getTime())
  const known = new Set(covered.map(vmOf))
  const nothing = (why: string): Coverage => ({
    at,
    unselected: [],
    covered,
    problems,
    unknown: [`Which VMs are in no job is not known: ${why}`],
  })
  if (!seen.known) return nothing('vCenter has not told yet which VMs the jobs have.')
  try {
    const all = await selectVms(await agent.vsphere(), ['*'], { bulk: true, signal: options.signal })
    return { at, unselected: all.filter((vm: VmRef) => !known.has(vmOf({ vm }))), covered, problems, unknown: [] }
  } catch (error) {
    return nothing(toAgentError(error).message)
  }
}
