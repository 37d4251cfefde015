import {
  type BackupMode,
  type ConsistencyLevel,
  type DiskFacts,
  isAgentError,
  type NotProtected,
  type PointId,
  type SnapshotRef,
  type VmConfig,
} from '../core/index.ts'
import type { Locking } from '../provider/index.ts'
import { openPlanned, type OpenOptions, type PlannedDisk } from '../transport/index.ts'
import { AreaList } from './area-list.ts'
import type { BackupDeps, BackupProgress, BackupRequest } from './backup-types.ts'
import { readConfigurationFiles } from './configuration-files.ts'
import type { ParentPoint } from './parent-point.ts'
import type { DiskTransfer } from './plan-transfers.ts'

/** What the first half hands to the second: the frozen disks and how they are to be read. */
export type Frozen = {
  readonly config: VmConfig
  readonly snapshot: SnapshotRef
  readonly level: ConsistencyLevel
  readonly reason: string
  readonly notProtected: readonly NotProtected[]
}

export type Written = { readonly point: PointId; readonly mode: BackupMode; readonly disks: readonly DiskFacts[] }

/** Stores configuration and disks and commits. Throws with nothing listed. */
export async function writePoint(
  deps: BackupDeps,
  request: BackupRequest,
  frozen: Frozen,
  transfers: readonly DiskTransfer[],
  parent: ParentPoint | undefined,
  warnings: string[],
  options: Locking & OpenOptions & { readonly onProgress?: ((progress: BackupProgress) => void) | undefined },
): Promise<Written> {
  const { config, snapshot } = frozen
  const mode = modeOf(transfers)
  await using writer = await deps.provider.begin(
    { config, run: request.run, time: snapshot.createdAt, parent: mode === 'incremental' ? parent?.id : undefined },
    options,
  )
  for (const file of await readConfigurationFiles(deps.vsphere, config, warnings, options))
    await writer.putFile(file.name, file.body, options)

  const facts: DiskFacts[] = []
  for (const wanted of transfers) {
    const { planned, transfer } = await openTransfer(deps, frozen, wanted, options)
    const { disk, areas } = transfer
    await using source = planned.source
    const totalBytes = areas.bytes
    const report = (doneBytes: number): void => options.onProgress?.({ vm: request.vm.name, disk: disk.label, doneBytes, totalBytes })
    report(0)
    const since = deps.clock.monotonicMs()
    const written = await writer.putDisk(
      disk,
      source,
      { mode: transfer.mode, ranges: areas },
      { signal: options.signal, onProgress: (at) => report(at.doneBytes) },
    )
    await planned.finish(options)
    report(totalBytes)
    facts.push({
      key: disk.key,
      label: disk.label,
      capacityBytes: disk.capacityBytes,
      fileName: disk.fileName,
      uuid: disk.uuid,
      changeId: disk.changeId,
      thin: disk.thin,
      mode: transfer.mode,
      modeReason: transfer.reason,
      transport: planned.transport,
      transportReason: planned.reason,
      refused: planned.refused,
      resumed: planned.resumed === 0 ? undefined : planned.resumed,
      readMs: Math.round(deps.clock.monotonicMs() - since),
      ...written,
    })
  }
  const { id, manifest } = await writer.commit(
    { mode: modeOf(facts), consistency: frozen.level, consistencyReason: frozen.reason, disks: facts, notProtected: frozen.notProtected },
    options,
  )
  return { point: id, mode: manifest.mode, disks: manifest.disks }
}

const modeOf = (disks: readonly { readonly mode: BackupMode }[]): BackupMode =>
  disks.some((disk) => disk.mode === 'incremental') ? 'incremental' : 'full'

/**
 * A disk, open, and what of it is transferred in the end: where nothing that can read the changed areas alone works, but something that reads whole
 * disks does, the disk is read in full and says why.
 */
async function openTransfer(
  deps: BackupDeps,
  { config, snapshot }: Frozen,
  transfer: DiskTransfer,
  { signal, claims }: OpenOptions,
): Promise<{ readonly planned: PlannedDisk; readonly transfer: DiskTransfer }> {
  const { disk, mode } = transfer
  const open = (wanted: 'allocated' | 'changed'): Promise<PlannedDisk> =>
    openPlanned({ snapshot, config, disk, wanted }, deps.transports, {
      log: deps.log,
      clock: deps.clock,
      reopen: deps.reopen,
      signal,
      claims,
    })
  if (mode === 'full') return { planned: await open('allocated'), transfer }
  try {
    return { planned: await open('changed'), transfer }
  } catch (error) {
    if (!isAgentError(error, 'UNAVAILABLE') || !deps.transports.some(({ wholeDisks }) => wholeDisks === true)) throw error
    const planned = await open('allocated')
    const areas = new AreaList()
    areas.add({ offset: 0, length: disk.capacityBytes })
    return { planned, transfer: { disk, mode: 'full', areas, reason: `only ${planned.transport} works, which reads whole disks` } }
  }
}
