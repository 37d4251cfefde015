import { isAgentError } from '../core/index.ts'
import type { CycleWork } from './after-cycle.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import { pruneRuleOf } from './config/prune.ts'
import { repositoryForJob } from './job-config.ts'
import { pruneIn } from './prune-run.ts'

/**
 * Prunes the repository of a job that has a retention, when it was not pruned for as long as its `prune` says: by nobody who shares the state. One that lets nothing be
 * removed counts as pruned, so that it is told once in that time; what failed otherwise is tried after the next cycle.
 */
export const pruneWork = (agent: Agent, config: () => AgentConfig): CycleWork => ({
  name: 'prune',
  wanted: ({ retention }) => retention !== undefined,
  work: async (job, _vms, options) => {
    const repository = repositoryForJob(config(), job)
    const rule = pruneRuleOf(repository.prune)
    if (rule === undefined) return
    const run = agent.ids.run()
    const now = agent.clock.now()
    await using provider = await agent.openRepository(repository, { run })
    if (provider.points?.prune === undefined) return
    // Of all agents that count together one prunes.
    await using token = await agent.buckets.tokens(`prune ${provider.url}`, `prunes of ${provider.url}`, 1).tryTake(job.name)
    if (token === undefined) {
      agent.log.info('another agent prunes the repository', { repository: provider.url })
      return
    }
    const last = await agent.prunes.last(provider.url)
    // A clock that was ahead once does not keep it from being pruned until then.
    if (last !== undefined && last <= now && now.getTime() - last.getTime() < rule.everyMs) return
    const { mostUnused, mostRepackedBytes } = rule
    try {
      await pruneIn(agent, provider, run, { mostUnused, mostRepackedBytes }, options)
    } catch (error) {
      if (isAgentError(error, 'CONFIG')) await agent.prunes.note(provider.url, now)
      throw error
    }
  },
})
