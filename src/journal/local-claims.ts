import { optional } from './claim-words.ts'
import type { JournaledClaim, JournaledJob } from './journal.ts'

const LOCAL: ReadonlySet<string> = new Set([
  'fuseMount',
  'loopDevice',
  'volumeMount',
  'mountDirectory',
  'partialFile',
  'repositoryKey',
  'stagePrograms',
])
const IN_REPOSITORY: ReadonlySet<string> = new Set(['repositoryWrite', 'newRepository', 'repositoryLock', 'pointRemoval'])
/** As restic writes them, with or without the name of its format. All other destinations are paths, devices or programs of one machine. */
const SERVER = /^(?:restic:)?(?:s3|sftp|rest):/u

/**
 * What exists on the machine of its process alone: mounts, devices, files, programs that are to come, and destinations given as a path. That a path is on storage which other proxies mount at the
 * same place cannot be known.
 */
export const isLocalClaim = ({ kind, args }: Pick<JournaledClaim, 'kind' | 'args'>): boolean =>
  LOCAL.has(kind) || (IN_REPOSITORY.has(kind) && !SERVER.test(optional(args, 'url') ?? ''))

/** Claims of a job that only its own machine can release, in the order they were taken. None where the journal is of one machine. */
export function claimsElsewhere(job: Pick<JournaledJob, 'host' | 'claims'>, host: string | undefined): readonly JournaledClaim[] {
  return host === undefined || job.host === undefined || job.host === host ? [] : job.claims.filter(isLocalClaim)
}

/** True when nothing of the job can be released here: all of it is on its own machine, or is what that stands on. */
export function isAllElsewhere(job: Pick<JournaledJob, 'host' | 'claims'>, host: string | undefined): boolean {
  const stuck = new Set(claimsElsewhere(job, host).map(({ id }) => id))
  if (stuck.size === 0) return false
  for (const claim of job.claims.toReversed()) if (stuck.has(claim.id)) for (const below of claim.dependsOn) stuck.add(below)
  return job.claims.every(({ id }) => stuck.has(id))
}
