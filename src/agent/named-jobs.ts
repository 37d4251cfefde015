import { AgentError } from '../core/index.ts'
import type { AgentConfig } from './config/config.ts'
import { closest } from './config/closest.ts'
import type { JobConfig } from './config/jobs.ts'

/** The jobs of vcb.yaml, or those of these names. NOT_FOUND for a name there is not, and when there is no job at all. */
export function namedJobs({ jobs }: Pick<AgentConfig, 'jobs'>, names: readonly string[] = []): readonly JobConfig[] {
  if (jobs.length === 0) {
    throw new AgentError('NOT_FOUND', 'The configuration has no jobs.', {
      next: 'Describe them in the section jobs of vcb.yaml; see docs/jobs.md.',
    })
  }
  if (names.length === 0) return jobs
  return names.map((name) => {
    const job = jobs.find((each) => each.name === name)
    if (job !== undefined) return job
    const known = jobs.map((each) => each.name)
    const meant = closest(name, known)
    throw new AgentError('NOT_FOUND', `There is no job ${JSON.stringify(name)}.`, {
      subject: name,
      next: meant === undefined ? `Name one of: ${known.slice(0, 20).join(', ')}.` : `Did you mean "${meant}"?`,
    })
  })
}
