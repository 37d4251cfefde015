import { toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'
import { repositoryForJob } from './job-config.ts'
import { listJobs, nextOfJobs } from './job-list.ts'

/** Jobs whose moment never comes: windows that never open, blackouts that never end, a schedule that names none. */
export function checkSchedules({ config, clock }: Agent, findings: Finding[]): void {
  for (const { job, next } of nextOfJobs(config.jobs, clock.now())) {
    const { cron, rpoMs } = job.schedule
    if (next !== undefined) continue
    const byHand = cron.length === 0 && rpoMs === undefined
    findings.push({
      check: `job ${job.name}`,
      result: byHand ? 'warning' : 'failed',
      detail: byHand
        ? 'It has neither cron nor rpo, so it runs only when it is asked to.'
        : 'Its moment never comes: its windows and blackouts leave none of its schedule.',
      next: byHand ? 'Give it one of the two, or run it with "vcb run".' : '"vcb plan" shows what is left; widen its windows.',
    })
  }
}

/** Which VMs each job has now. A job without any protects nothing. */
export async function checkJobs(agent: Agent, findings: Finding[]): Promise<void> {
  const { jobs } = agent.config
  if (jobs.length === 0) return
  let vms = 0
  let empty = 0
  for (const { job, vms: members, error } of await listJobs(agent, { names: [], vms: true })) {
    vms += members?.length ?? 0
    if (error === undefined) continue
    empty++
    findings.push({ check: `job ${job.name}`, result: 'failed', detail: `It selects no VM: ${error.message}`, next: error.next })
  }
  if (empty < jobs.length)
    findings.push({ check: 'jobs', result: 'ok', detail: `${jobs.length - empty} of ${jobs.length} jobs select VMs, ${vms} in all` })
}

/** Every repository that jobs write to or copy into, other than the general one, which is looked at by itself. */
export async function checkJobRepositories(agent: Agent, findings: Finding[]): Promise<void> {
  const { jobs, repository } = agent.config
  const seen = new Set<string>(repository.url === undefined ? [] : [repository.url])
  for (const job of jobs) {
    for (const name of [job.repository, ...job.copyTo]) {
      const check = `repository ${name}`
      try {
        const named = repositoryForJob(agent.config, { ...job, repository: name })
        if (seen.has(named.url)) continue
        seen.add(named.url)
        await using provider = await agent.openRepository(named)
        findings.push({ check, result: 'ok', detail: `${provider.url} opens${name === job.repository ? '' : ', for copies'}` })
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED') throw shown
        findings.push({ check, result: 'failed', detail: `${shown.message} The job ${job.name} needs it.`, next: shown.next })
      }
    }
  }
}
