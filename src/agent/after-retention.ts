import { type Abortable, AgentError, type PointSummary, type VmRef } from '../core/index.ts'
import { copyOf, forgetPoints } from '../flow/index.ts'
import { createCalendar } from '../schedule/index.ts'
import type { CycleWork } from './after-cycle.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { repositoryForJob } from './job-config.ts'

/** Forgets, by the policy of the job, points of those of its VMs that have a new good one; a cycle in which every run failed forgets nothing. */
export const retentionWork = (agent: Agent, config: () => AgentConfig): CycleWork => ({
  name: 'retention',
  wanted: ({ retention }) => retention !== undefined,
  work: async (job, vms, options) => {
    const { retention: policy } = job
    if (policy === undefined) return
    await using provider = await agent.openRepository(repositoryForJob(config(), job))
    const { points, url } = provider
    const mustStay = notCopiedYet(agent, config(), job, options)
    if (points === undefined) throw unlisted(job, url)
    const { journal, locks, catalog, clock, log } = agent
    const request = {
      by: 'policy',
      policy,
      calendar: createCalendar(job.schedule.timeZone),
      expressions: vms.map(expressionOf),
      mustStay,
    } as const
    const result = await agent.job('forget', { repository: url, job: job.name }, (claims, signal) =>
      forgetPoints({ points, url, journal, locks, catalog, clock, log }, claims, request, { signal: signal ?? options.signal }),
    )
    const forgotten = result.vms.reduce((sum, vm) => sum + vm.forgotten.length, 0)
    log.info('retention of a job', { vms: vms.length, forgotten })
    for (const { vm, error } of result.vms) {
      if (error !== undefined) log.warn('points of a VM were not forgotten', { vm: vm.name, error: error.message })
    }
  },
})

/** A point that came after the copies of this cycle were made must not go before it was copied. Where they are is listed once, when somebody asks. */
function notCopiedYet(
  agent: Agent,
  config: AgentConfig,
  job: JobConfig,
  options: Abortable,
): ((point: PointSummary) => Promise<string | undefined>) | undefined {
  if (job.copyTo.length === 0) return undefined
  let listed: Promise<readonly (readonly [string, readonly PointSummary[]])[]> | undefined
  const list = async (name: string): Promise<readonly [string, readonly PointSummary[]]> => {
    await using there = await agent.openRepository(repositoryForJob(config, { ...job, repository: name }))
    if (there.points === undefined) throw unlisted(job, there.url)
    return [name, await Array.fromAsync(there.points.list(options))]
  }
  return async (point) => {
    listed ??= Promise.all(job.copyTo.map(list))
    const lacking = (await listed).find(([, there]) => copyOf(point, there) === undefined)
    return lacking === undefined ? undefined : `not copied to ${lacking[0]} yet`
  }
}

const expressionOf = ({ instanceUuid }: VmRef): string => `uuid:${instanceUuid}`

const unlisted = (job: JobConfig, url: string): AgentError =>
  new AgentError('CONFIG', `The job ${job.name} has a retention, but what is in ${url} cannot be listed.`, {
    subject: job.name,
    next: 'Leave the retention to the destination, or name a repository.',
  })
