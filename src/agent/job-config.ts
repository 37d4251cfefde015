import { AgentError } from '../core/index.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import type { NamedRepository } from './config/repositories.ts'

/** The settings in force for a job's runs: its own over the general ones. */
export function configForJob(config: AgentConfig, job: JobConfig | undefined): AgentConfig {
  if (job === undefined) return config
  return Object.freeze({ ...config, quiesce: job.quiesce ?? config.quiesce, transports: job.transports ?? config.transports })
}

/** Where a job's points go; of a run without a job, the general repository. CONFIG when there is none. */
export function repositoryForJob({ repositories, repository }: AgentConfig, job: JobConfig | undefined): NamedRepository {
  const { url } = repository
  if (job === undefined && url !== undefined) return repositories.find((each) => each.url === url) ?? { ...repository, url, name: url }
  const found = repositories.find(({ name }) => name === job?.repository)
  if (found !== undefined) return found
  throw new AgentError(
    'CONFIG',
    job === undefined ? 'No repository was given.' : `The repository ${job.repository} of the job ${job.name} is not there.`,
    {
      subject: job?.name,
      next: 'Name one in the section repositories of vcb.yaml.',
    },
  )
}
