import { type Abortable, type Manifest, type PointId, type PointSummary, type VmRef } from '../core/index.ts'
import type { PointStore } from '../provider/index.ts'

/** The point an incremental builds on. */
export type ParentPoint = { readonly id: PointId; readonly manifest: Manifest }

/** The newest complete point of this VM in the repository; undefined when there is none. The VM is known by instanceUuid and vCenter, not by name. */
export async function findParent(points: PointStore | undefined, vm: VmRef, options?: Abortable): Promise<ParentPoint | undefined> {
  if (points === undefined) return undefined
  let newest: PointSummary | undefined
  for await (const point of points.list(options)) {
    if (point.instanceUuid !== vm.instanceUuid || point.vcenterUuid !== vm.vcenterUuid) continue
    if (newest === undefined || Date.parse(point.time) > Date.parse(newest.time)) newest = point
  }
  if (newest === undefined) return undefined
  await using reader = await points.open(newest.id, options)
  return { id: newest.id, manifest: reader.manifest }
}
