import type { RunRecord, VmRef } from '../core/index.ts'

/** A VM that a job protects, or that has a point. */
export type VmFacts = {
  readonly vm: Pick<VmRef, 'name' | 'instanceUuid'>
  readonly job: string | undefined
  /** ms since 1970; undefined: there is none. */
  readonly lastGoodAt: number | undefined
  readonly rpoMs: number | undefined
  /** Of its last run that ended; undefined before the first. */
  readonly last:
    | (Pick<RunRecord, 'result' | 'readBytes' | 'storedBytes' | 'snapshotLifetimeMs' | 'frozenMs'> & { readonly tookMs: number })
    | undefined
}

/** Sums over the runs that ended since this agent began; they only grow. */
export type JobFacts = {
  /** Undefined: runs that no job asked for. */
  readonly job: string | undefined
  readonly runs: Readonly<Record<RunRecord['result'], number>>
  readonly readBytes: number
  readonly storedBytes: number
}

/** Of a repository; undefined: not known. Moments are ms since 1970. */
export type RepositoryFacts = {
  readonly name: string
  readonly points: number | undefined
  /** As last measured: bytes of its packs, of those that no index names, and of blobs that no point needs. */
  readonly bytes: number | undefined
  readonly unknownBytes?: number | undefined
  readonly unusedBytes?: number | undefined
  /** The end of the last whole look at its structure. */
  readonly structureAt?: number | undefined
  /** Since when all of its data were read at least once. */
  readonly dataSince?: number | undefined
  /** What was found and not found sound since. */
  readonly problems?: number | undefined
  /** When its Object Locks were last renewed, and how many points were not protected as long as they are to be after that. */
  readonly renewedAt?: number | undefined
  readonly shortPoints?: number | undefined
}

/** What /metrics shows. Asked for at every scrape: it must not ask vCenter or a repository. */
export type MetricFacts = {
  readonly vms: readonly VmFacts[]
  readonly jobs: readonly JobFacts[]
  readonly queue: { readonly waiting: number; readonly running: number }
  readonly limits: readonly { readonly name: string; readonly limit: number; readonly used: number; readonly waiting: number }[]
  /** As last measured; undefined bytes: never. */
  readonly repositories: readonly RepositoryFacts[]
  readonly draining: boolean
}
