import type { CycleWork } from './after-cycle.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import { copyBetween } from './copy-run.ts'
import { repositoryForJob } from './job-config.ts'

/** Copies the points of a job's VMs into each repository of its `copyTo`: those of the run, and whatever is not there yet of earlier ones. */
export const copyWork = (agent: Agent, config: () => AgentConfig): CycleWork => ({
  name: 'copy',
  wanted: ({ copyTo }) => copyTo.length > 0,
  work: async (job, vms) => {
    const uuids = new Set(vms.map(({ instanceUuid }) => instanceUuid))
    await using from = await agent.openRepository(repositoryForJob(config(), job))
    for (const name of job.copyTo) {
      const target = repositoryForJob(config(), { ...job, repository: name })
      const { points } = await copyBetween(agent, from, target, { wanted: ({ instanceUuid }) => uuids.has(instanceUuid) })
      const count = (result: string): number => points.filter((point) => point.result === result).length
      agent.log.info('copies of a job', { to: name, copied: count('copied'), failed: count('failed') })
      const failed = points.find((point) => point.result === 'failed')
      if (failed?.result === 'failed') throw failed.error
    }
  },
})
