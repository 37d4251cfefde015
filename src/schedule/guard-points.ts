import type { ConsistencyLevel } from '../core/index.ts'
import type { RetentionPoint } from './retention.ts'

/** A point as far as its worth is concerned. */
type Worth = Pick<RetentionPoint, 'id' | 'consistency' | 'missing'>

const LEVELS: Readonly<Record<ConsistencyLevel, number>> = Object.freeze({ crash: 0, filesystem: 1, application: 2 })

/**
 * The points that no policy may remove, and why in words. `newestFirst`: the complete points of one VM.
 *
 * A point is superseded by a newer one that is at least as good: it lacks no disk the older one holds, and its guest was at least as consistent.
 * Who has not been superseded stays: always the newest point, and beside it the last one that held a disk which later ones lack, or the last
 * one of a better consistency. So a run that lost a disk, or did not quiesce, cannot push out the last good point, however often it is repeated.
 */
export function guardPoints<P extends Worth>(newestFirst: readonly P[]): ReadonlyMap<P['id'], string> {
  const reasons = new Map<P['id'], string>()
  const guards: P[] = []
  for (const point of newestFirst) {
    if (guards.some((newer) => supersedes(newer, point))) continue
    reasons.set(point.id, reasonFor(point, guards))
    guards.push(point)
  }
  return reasons
}

function supersedes(newer: Worth, older: Worth): boolean {
  const lacking = new Set(older.missing)
  return LEVELS[newer.consistency] >= LEVELS[older.consistency] && newer.missing.every((disk) => lacking.has(disk))
}

function reasonFor(point: Worth, newer: readonly Worth[]): string {
  if (newer.length === 0) return 'the last complete point of the VM'
  const own = new Set(point.missing)
  const [first, ...others] = newer.map((each) => new Set(each.missing))
  const onlyHere = [...(first ?? [])].filter((disk) => !own.has(disk) && others.every((missing) => missing.has(disk)))
  const better = newer.every((each) => LEVELS[each.consistency] < LEVELS[point.consistency])
  const words = [
    ...(onlyHere.length > 0 ? [`the last point that holds ${onlyHere.sort().join(', ')}`] : []),
    ...(better ? [`the last ${point.consistency}-consistent point`] : []),
  ]
  return words.join(', ') || 'no newer point is as good in both disks and consistency'
}
