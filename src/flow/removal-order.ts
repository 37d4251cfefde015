import type { PointId } from '../core/index.ts'
import type { PlannedPoint } from './plan-forget.ts'

/**
 * The order in which points are removed: oldest first, so that whatever interrupts it leaves the newest; but a point that stands on another
 * one (archives) before that one, so that at every moment each point left can be read.
 */
export function removalOrder(points: readonly PlannedPoint[]): readonly PlannedPoint[] {
  const oldestFirst = points.toSorted(
    (a, b) => (Date.parse(a.summary.time) || 0) - (Date.parse(b.summary.time) || 0) || (a.summary.id < b.summary.id ? -1 : 1),
  )
  const above = Map.groupBy(
    oldestFirst.filter(({ summary }) => summary.needs !== undefined),
    ({ summary }) => summary.needs,
  )
  const order: PlannedPoint[] = []
  const seen = new Set<PointId>()
  // Depth first without recursion: chains of archives are long.
  const left = oldestFirst.toReversed().map((point) => ({ point, ready: false }))
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { point, ready } = next
    if (ready) order.push(point)
    if (ready || seen.has(point.summary.id)) continue
    seen.add(point.summary.id)
    left.push({ point, ready: true })
    for (const other of above.get(point.summary.id) ?? []) left.push({ point: other, ready: false })
  }
  return order
}
