import { hostname } from 'node:os'
import { isAgentError } from '../core/index.ts'
import { createReport, type Report } from '../notices/index.ts'
import { createDuePlanner } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import { coverageOf, type JobsSeen } from './coverage.ts'
import { resolveJobs } from './job-vms.ts'
import { namedJobs } from './named-jobs.ts'
import { MOST_RUNS } from './notice-shift.ts'

export type ReportRunRequest = {
  readonly since: Date
  readonly until: Date
  readonly timeZone: string
  /** Only runs of these jobs; all, and those of no job, when empty. */
  readonly jobs: readonly string[]
}

/** What ran, and what is not protected as of now, by the history and by what vCenter answers. Changes nothing. NOT_FOUND for a job there is not. */
export async function runReport(agent: Agent, { since, until, timeZone, jobs }: ReportRunRequest): Promise<Report> {
  const { config, history, signal } = agent
  const named = new Set(namedJobs(config, jobs).map(({ name }) => name))
  const records = (await history.find({ since, until, limit: MOST_RUNS })).filter(
    ({ job }) => jobs.length === 0 || (job !== undefined && named.has(job)),
  )
  const coverage = await coverageOf(agent, await jobsSeen(agent), config.noRpoAgeMs, { signal })
  return createReport({ title: 'Backup report', proxy: hostname(), since, until, timeZone, records, coverage })
}

async function jobsSeen(agent: Agent): Promise<JobsSeen> {
  const { config, clock } = agent
  if (config.jobs.length === 0) return { known: true, members: [], errors: new Map() }
  try {
    const { jobs } = await resolveJobs(agent, config.jobs, clock.now())
    const members = jobs.flatMap(({ job, vms }) => {
      const planner = createDuePlanner(job.name, job.schedule)
      return vms.map(({ vm, record }) => ({ job, vm, record, planner }))
    })
    return {
      known: true,
      members,
      errors: new Map(jobs.flatMap(({ job, error }) => (error === undefined ? [] : [[job.name, error] as const]))),
    }
  } catch (error) {
    // What ran can be told without vCenter; that the rest is not known is in the report.
    if (!isAgentError(error, 'UNAVAILABLE')) throw error
    return { known: false, members: [], errors: new Map() }
  }
}
