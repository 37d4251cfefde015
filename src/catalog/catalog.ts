import type { PointId, PointSummary } from '../core/index.ts'

/** Which points to list. Fields given are all required to match; strings match exactly, times are ISO 8601 and inclusive. */
export type PointQuery = {
  readonly vmName?: string | undefined
  readonly instanceUuid?: string | undefined
  readonly vcenterUuid?: string | undefined
  readonly repository?: string | undefined
  readonly since?: string | undefined
  readonly until?: string | undefined
  /** Newest first; this many at most. */
  readonly limit?: number | undefined
}

/**
 * Which restore points exist where. A convenience that can always be rebuilt from the repositories: nothing here decides whether a point
 * is good. Ids are unique per repository only. Every change is atomic and durable when it resolves.
 */
export interface Catalog {
  /** Adds a point, or replaces what was known of it. */
  add(point: PointSummary): Promise<void>
  /** A point by id, or an unambiguous beginning of at least 6 characters, in one repository or in all. NOT_FOUND, USAGE (ambiguous). */
  get(id: string, repository?: string): Promise<PointSummary>
  /** Newest first. */
  find(query: PointQuery): Promise<readonly PointSummary[]>
  /** How many points each repository has. */
  counts(): Promise<ReadonlyMap<string, number>>
  /** Forgets a point. Idempotent. */
  remove(repository: string, id: PointId): Promise<void>
  /**
   * Makes the catalog's view of one repository equal to `points`; all or nothing when `points` fails. What is added by somebody else while they are listed
   * stays: a backup may end meanwhile.
   */
  rebuild(repository: string, points: AsyncIterable<PointSummary>): Promise<{ readonly added: number; readonly removed: number }>
}
