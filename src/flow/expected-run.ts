import { type Abortable, type BackupMode, isAgentError, type PointSummary, toAgentError, type VmConfig, type VmRef } from '../core/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import { changeRate, type ExpectedRun } from '../snapshot/index.ts'
import type { ParentPoint } from './parent-point.ts'

/** Points looked at for a VM's change rate. */
const POINTS_TAKEN = 16
/** Below this a measured speed says more about the start-up than about the transport. Bytes. */
const LEAST_READ = 64 * 1024 * 1024

/**
 * The VM's newest points, newest first, known by instanceUuid and vCenter, not by name. Empty where a destination keeps none. A full backup
 * does not need them: there, a repository that cannot be listed gives none.
 */
export async function earlierPoints(
  provider: Pick<BackupProvider, 'points'>,
  vm: VmRef,
  mode: 'auto' | BackupMode,
  options?: Abortable,
): Promise<readonly PointSummary[]> {
  let points: PointSummary[] = []
  try {
    const newestOf = { instanceUuid: vm.instanceUuid, vcenterUuid: vm.vcenterUuid, most: POINTS_TAKEN }
    for await (const point of provider.points?.list({ ...options, newestOf }) ?? []) {
      if (point.instanceUuid !== vm.instanceUuid || point.vcenterUuid !== vm.vcenterUuid) continue
      points.push(point)
      if (points.length >= POINTS_TAKEN * 2) points = newest(points)
    }
  } catch (error) {
    if (mode !== 'full' || isAgentError(toAgentError(error), 'CANCELED', 'INTERNAL')) throw error
    return []
  }
  return newest(points)
}

const newest = (points: readonly PointSummary[]): PointSummary[] =>
  [...points].sort((a, b) => Date.parse(b.time) - Date.parse(a.time)).slice(0, POINTS_TAKEN)

/** What this run will take, from what earlier ones took. */
export function expectRun(config: VmConfig, parent: ParentPoint | undefined, earlier: readonly PointSummary[], now: Date): ExpectedRun {
  const capacity = config.disks.reduce((sum, disk) => sum + disk.capacityBytes, 0)
  const changedPerHour = changeRate(earlier)
  const hours = parent === undefined ? 0 : Math.max(0, (now.getTime() - Date.parse(parent.manifest.time)) / 3_600_000)
  const lastFull = earlier.find((point) => point.mode === 'full')?.readBytes
  const bytes = parent === undefined ? (lastFull ?? capacity) : (changedPerHour ?? capacity * 0.02) * hours
  return { bytes: Math.min(capacity, bytes), changedPerHour, readPerSecond: readRate(parent) }
}

/** Bytes a second that the parent's disks were read and stored with; undefined when they were too small to tell. */
function readRate(parent: ParentPoint | undefined): number | undefined {
  const disks = parent?.manifest.disks ?? []
  const bytes = disks.reduce((sum, disk) => sum + disk.readBytes, 0)
  const ms = disks.reduce((sum, disk) => sum + (disk.readMs ?? 0), 0)
  return bytes < LEAST_READ || ms === 0 ? undefined : (bytes / ms) * 1000
}
