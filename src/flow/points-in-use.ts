import type { PointId } from '../core/index.ts'
import type { JobJournal, JournaledJob } from '../journal/index.ts'

/** Shortest beginning of an id that a job may name its point by. */
const SHORTEST = 6

/**
 * What has restore points open on this proxy, by the journal: jobs that are not finished and name a `point` in their arguments, as restores and
 * mounts do, leases included. The result tells for a point who uses it, in words; undefined = nobody. Readers on other proxies hold the
 * repository's lock instead.
 */
export async function pointsInUse(journal: Pick<JobJournal, 'unfinished'>): Promise<(point: PointId) => string | undefined> {
  const users = (await journal.unfinished()).flatMap((job) => {
    const point = pointOf(job)
    return point === undefined ? [] : [{ point, words: `${job.kind} job ${job.id}` }]
  })
  // Either may be the beginning of the other: jobs and people name points by that.
  const same = (user: string, point: string): boolean =>
    user === point || (Math.min(user.length, point.length) >= SHORTEST && (point.startsWith(user) || user.startsWith(point)))
  return (point) => users.find((user) => same(user.point, point))?.words
}

function pointOf({ args }: JournaledJob): string | undefined {
  if (typeof args !== 'object' || args === null || !('point' in args)) return undefined
  return typeof args.point === 'string' ? args.point : undefined
}
