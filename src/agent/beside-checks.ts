import { AgentError } from '../core/index.ts'
import type { CycleWork, FailedWork } from './after-cycle.ts'
import type { AfterCheck } from './check-ended.ts'
import type { AgentConfig } from './config/config.ts'
import type { EventHub } from './event-hub.ts'
import type { RepositoryChecker } from './repository-checker.ts'

/** Before what needs the repository for itself: a check that runs there ends, and goes on later. */
export const yieldWork = (checker: () => RepositoryChecker): CycleWork => ({
  name: 'check',
  wanted: ({ retention }) => retention !== undefined,
  work: (job) => checker().yield(job.repository),
})

/** What a check found, for everybody who listens to the agent, and by the notices of the jobs that use the repository. */
export const tellFindings = (events: EventHub, config: () => AgentConfig, failed: FailedWork): AfterCheck => ({
  name: 'findings',
  afterCheck: async ({ repository, url, endedAt, found, open }) => {
    const [first] = found
    if (first === undefined) return
    const message = `The check of ${url} found ${found.length} problems (${open.length} are open), the first: ${first.what}`
    events.tell({ type: 'notice', at: endedAt, level: 'error', message })
    const error = new AgentError('INTEGRITY', message, { subject: url })
    for (const job of config().jobs) {
      if ([job.repository, ...job.copyTo].includes(repository)) await failed(job, 'check', error)
    }
  },
})
