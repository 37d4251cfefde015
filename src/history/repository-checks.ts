import { z } from 'zod'

const moment = z.iso.datetime().nullable()
const problem = z.object({ what: z.string(), point: z.string().optional(), slice: z.int().min(0).optional(), at: z.iso.datetime() })
const count = z.number().min(0)

/** What is kept of a repository's checks; moments are ISO 8601 in UTC. */
export const checkRecordSchema = z.object({
  /** When it was first heard of: nothing is overdue that never could have been done. */
  knownSince: z.iso.datetime(),
  /** The end of the last look at the structure; null: none yet. */
  structureAt: moment,
  /** The end of the last share of the data. */
  dataAt: moment,
  /** When each part of the data was last read, by its number. */
  slices: z.array(moment),
  /** What was found and not found sound again since, the worst at most. */
  problems: z.array(problem),
  /** As last measured. */
  size: z.object({ at: z.iso.datetime(), bytes: count, unknownBytes: count, unusedBytes: count.optional(), packs: count }).nullable(),
})
export type CheckRecord = Readonly<z.infer<typeof checkRecordSchema>>
export type FoundProblem = CheckRecord['problems'][number]

/**
 * How far the checks of each repository are, by its URL: kept over restarts, and for all proxies that share the state. What a repository holds does not matter to it:
 * points and packs come and go, the parts of the data stay the same.
 */
export interface RepositoryChecks {
  /** Undefined of a repository never heard of. */
  of(repository: string): Promise<CheckRecord | undefined>
  /** Every one that is known. */
  all(): Promise<ReadonlyMap<string, CheckRecord>>
  /** Replaces what is known by what `change` makes of it. Atomic: changes of several processes follow one another. `change` may be called again. */
  update(repository: string, change: (known: CheckRecord | undefined) => CheckRecord): Promise<CheckRecord>
}
