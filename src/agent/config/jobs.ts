import { z } from 'zod'
import { AgentError, type QuiescePolicy, type TransportName } from '../../core/index.ts'
import { parseExpressions } from '../../inventory/index.ts'
import type { JobSchedule, RetentionPolicy } from '../../schedule/index.ts'
import type { StageProgram } from '../../stages/index.ts'
import type { FileOf } from './given.ts'
import { scheduleKeys, scheduleOf } from './job-schedule.ts'
import { checkedBy, listOf } from './list-of.ts'
import { quiescePolicy } from './quiesce.ts'
import { DEFAULT_REPOSITORY, jobName, type NamedRepository } from './repositories.ts'
import { retention } from './retention.ts'
import { stages, stagesOf } from './stages.ts'
import { transportList } from './transports.ts'

/** Some VMs, when each of them is backed up, how and whereto. Undefined = the general setting of the file. */
export type JobConfig = {
  /** Unique, and a safe file name. */
  readonly name: string
  /** Selection expressions, evaluated each time. */
  readonly select: readonly string[]
  readonly schedule: JobSchedule
  /** The name of one of `repositories`. */
  readonly repository: string
  /** Names of those that get a copy of each point. */
  readonly copyTo: readonly string[]
  readonly quiesce: QuiescePolicy | undefined
  /** False: none are run; `require` or `try`: instead of their own policy. */
  readonly guestScripts: boolean | 'require' | 'try' | undefined
  readonly transports: readonly TransportName[] | undefined
  readonly excludeDisks: readonly string[]
  /** Undefined: nothing is forgotten. */
  readonly retention: RetentionPolicy | undefined
  readonly stages: readonly StageProgram[]
  /** Names of `notices`. */
  readonly notices: readonly string[]
  /** Groups of expressions: never two VMs of one group at once. */
  readonly apart: readonly (readonly string[])[]
}

const expression = checkedBy((text) => parseExpressions([text])).refine((text) => text.trim() !== '', { error: 'it names no VM' })

/** What `jobDefaults` may set for all jobs. */
export const jobDefaultKeys = {
  ...scheduleKeys,
  repository: jobName.optional(),
  copyTo: listOf(jobName).optional(),
  quiesce: quiescePolicy.optional(),
  guestScripts: z.union([z.boolean(), z.enum(['require', 'try'])], { error: 'it is true, false, require or try' }).optional(),
  transports: transportList.optional(),
  excludeDisks: listOf(z.string().min(1)).optional(),
  retention: retention.optional(),
  stages: stages.optional(),
  notices: listOf(jobName).optional(),
  apart: z.array(listOf(expression)).max(1000).optional(),
} as const

/** More than anybody maintains by hand. */
const MOST_JOBS = 10_000

export const jobsKeys = {
  jobDefaults: z.strictObject(jobDefaultKeys).optional(),
  jobs: z
    .array(
      z.strictObject({
        name: jobName,
        select: listOf(expression).refine((list) => list.length > 0, { error: 'it names no VM' }),
        ...jobDefaultKeys,
      }),
    )
    .max(MOST_JOBS)
    .optional(),
} as const

/** A key of a job stands instead of the same key of `jobDefaults`, whole. CONFIG for a job whose repository is not there. */
export function jobsOf(
  file: FileOf<typeof jobsKeys>,
  { repositories }: { readonly repositories: readonly NamedRepository[] },
): { readonly jobs: readonly JobConfig[] } {
  const known = repositories.map(({ name }) => name)
  return {
    jobs: Object.freeze(
      (file.jobs ?? []).map((own): JobConfig => {
        const job = { ...file.jobDefaults, ...own }
        const repository = job.repository ?? defaultRepository(known)
        if (repository === undefined) throw new AgentError('CONFIG', `The job ${job.name}: ${NO_REPOSITORY}.`, { subject: job.name })
        return Object.freeze({
          name: job.name,
          select: job.select,
          schedule: scheduleOf(job),
          repository,
          copyTo: job.copyTo ?? [],
          quiesce: job.quiesce,
          guestScripts: job.guestScripts,
          transports: job.transports,
          excludeDisks: job.excludeDisks ?? [],
          retention: job.retention,
          stages: stagesOf(job.stages),
          notices: job.notices ?? [],
          apart: job.apart ?? [],
        })
      }),
    ),
  }
}

export const NO_REPOSITORY = 'it does not say into which of the repositories'

/** Where points of a job go that does not say: into `repository`, or the only one there is. */
export const defaultRepository = (known: readonly string[]): string | undefined =>
  known.includes(DEFAULT_REPOSITORY) ? DEFAULT_REPOSITORY : known.length === 1 ? known[0] : undefined
