import type { BackupMode, ConsistencyLevel, DiskFacts, NotProtected, PointId, SnapshotRef, VmConfig } from '../core/index.ts'
import type { Locking } from '../provider/index.ts'
import { openPlanned, type OpenOptions } from '../transport/index.ts'
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
  const mode: BackupMode = transfers.some((transfer) => transfer.mode === 'incremental') ? 'incremental' : 'full'
  await using writer = await deps.provider.begin(
    { config, run: request.run, time: snapshot.createdAt, parent: mode === 'incremental' ? parent?.id : undefined },
    options,
  )
  for (const file of await readConfigurationFiles(deps.vsphere, config, warnings, options))
    await writer.putFile(file.name, file.body, options)

  const facts: DiskFacts[] = []
  for (const { disk, areas, ...transfer } of transfers) {
    const planned = await openPlanned({ snapshot, config, disk }, deps.transports, {
      log: deps.log,
      clock: deps.clock,
      reopen: deps.reopen,
      signal: options.signal,
      claims: options.claims,
    })
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
    { mode, consistency: frozen.level, consistencyReason: frozen.reason, disks: facts, notProtected: frozen.notProtected },
    options,
  )
  return { point: id, mode: manifest.mode, disks: manifest.disks }
}
