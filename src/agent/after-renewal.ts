import { AgentError, isAgentError, toAgentError } from '../core/index.ts'
import type { CycleWork, FailedWork } from './after-cycle.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { repositoryForJob } from './job-config.ts'
import { renewIn } from './renew-run.ts'

/** Clocks of proxies are so far apart at most, ms. */
const CLOCKS_APART_MS = 60_000

/**
 * Has the buckets that a job writes to (or its copies) keep what its points need as long as them. Why it cannot is told, and nothing that comes after it waits for it: points that are not protected long enough
 * are no reason to keep others for ever.
 */
export const renewalWork = (agent: Agent, config: () => AgentConfig, of: 'points' | 'copies', failed: FailedWork): CycleWork => {
  const lockedOf = (job: JobConfig): readonly string[] => {
    const names = of === 'points' ? [job.repository] : job.copyTo
    return names.filter((name) => config().repositories.find((each) => each.name === name)?.s3?.objectLock !== undefined)
  }
  return {
    name: 'renewal of locks',
    wanted: (job) => lockedOf(job).length > 0,
    work: async (job, _vms, options) => {
      for (const name of lockedOf(job)) {
        const repository = repositoryForJob(config(), { ...job, repository: name })
        // Where another agent renews there, it may have looked before this one's points were there.
        const unlessSince = agent.clock.now().getTime() + CLOCKS_APART_MS
        try {
          await using provider = await agent.openRepository(repository)
          const { short } = (await renewIn(agent, provider, { unlessSince }, options)) ?? { short: [] }
          if (short.length > 0) await failed(job, 'renewal of locks', shortError(repository.url, short.length))
        } catch (error) {
          // In use by somebody alone: it is tried again soon.
          if (isAgentError(error, 'CONFLICT', 'CANCELED')) throw error
          agent.log.warn('the locks of a repository were not renewed', { repository: repository.url, error: toAgentError(error).message })
          await failed(job, 'renewal of locks', toAgentError(error))
        }
      }
    },
  }
}

const shortError = (url: string, short: number): AgentError =>
  new AgentError('INTEGRITY', `${short} restore points in ${url} need what is not kept as long as they are to be.`, {
    subject: url,
    next: 'Run "vcb renew-locks", which names them, and "vcb check".',
  })
