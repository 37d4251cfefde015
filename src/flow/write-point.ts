import {
  type BackupMode,
  type ConsistencyLevel,
  type DiskFacts,
  type NotProtected,
  type PointId,
  type SnapshotRef,
  type VmConfig,
} from '../core/index.ts'
import type { BackupWriter, Locking } from '../provider/index.ts'
import { NoTransportError, openPlanned, type OpenOptions, type PlannedDisk, type Refusal, type Transport } from '../transport/index.ts'
import { AreaList } from './area-list.ts'
import type { BackupDeps, BackupProgress, BackupRequest } from './backup-types.ts'
import { readConfigurationFiles } from './configuration-files.ts'
import { storeOf } from './disks-to-read.ts'
import type { ParentPoint } from './parent-point.ts'
import type { DiskTransfer } from './plan-transfers.ts'
import { sideBySide } from './side-by-side.ts'

/** What the first half hands to the second: the frozen disks and how they are to be read. */
export type Frozen = {
  readonly config: VmConfig
  readonly snapshot: SnapshotRef
  readonly level: ConsistencyLevel
  readonly reason: string
  readonly notProtected: readonly NotProtected[]
}

export type Written = { readonly point: PointId; readonly mode: BackupMode; readonly disks: readonly DiskFacts[] }

type Writing = Locking & OpenOptions & { readonly onProgress?: ((progress: BackupProgress) => void) | undefined }

/** Stores configuration and disks and commits. Throws with nothing listed. */
export async function writePoint(
  deps: BackupDeps,
  request: BackupRequest,
  frozen: Frozen,
  transfers: readonly DiskTransfer[],
  parent: ParentPoint | undefined,
  warnings: string[],
  options: Writing,
): Promise<Written> {
  const { config, snapshot } = frozen
  const mode = modeOf(transfers)
  await using writer = await deps.provider.begin(
    { config, run: request.run, time: snapshot.createdAt, parent: mode === 'incremental' ? parent?.id : undefined },
    options,
  )
  for (const file of await readConfigurationFiles(deps.vsphere, config, warnings, options))
    await writer.putFile(file.name, file.body, options)

  const most = deps.provider.parallelDisks === true ? (request.parallelDisks ?? 1) : 1
  const facts = await sideBySide(
    transfers,
    most,
    (transfer, signal) => writeDisk(deps, request, frozen, transfer, writer, { ...options, signal }),
    options.signal,
  )
  const { id, manifest } = await writer.commit(
    { mode: modeOf(facts), consistency: frozen.level, consistencyReason: frozen.reason, disks: facts, notProtected: frozen.notProtected },
    options,
  )
  return { point: id, mode: manifest.mode, disks: manifest.disks }
}

/** Reads one disk and stores it. Opened only when the datastore has room for another reader. */
async function writeDisk(
  deps: BackupDeps,
  request: BackupRequest,
  frozen: Frozen,
  wanted: DiskTransfer,
  writer: BackupWriter,
  options: Writing,
): Promise<DiskFacts> {
  const store = storeOf(frozen.config, wanted.disk)
  using _stream = store === undefined ? undefined : await deps.limits.stream(store, options)
  const { planned, transfer } = await openTransfer(deps, frozen, wanted, options)
  const { disk, areas } = transfer
  await using source = deps.limits.gently(planned.source, store)
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
  return {
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
  }
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
  const open = (wanted: 'allocated' | 'changed', transports: readonly Transport[], refused: readonly Refusal[]): Promise<PlannedDisk> =>
    openPlanned({ snapshot, config, disk, wanted }, transports, {
      log: deps.log,
      clock: deps.clock,
      reopen: deps.reopen,
      signal,
      claims,
      onWait: deps.limits.onWait,
      refused,
    })
  if (mode === 'full') return { planned: await open('allocated', deps.transports, []), transfer }
  try {
    return { planned: await open('changed', deps.transports, []), transfer }
  } catch (error) {
    const whole = deps.transports.filter(({ wholeDisks }) => wholeDisks === true)
    if (!(error instanceof NoTransportError) || whole.length === 0) throw error
    // Only these are asked again: another one that works by now was away for a moment, which is no reason to read everything.
    const others = error.refused.filter((refusal) => !whole.some(({ name }) => name === refusal.transport))
    const planned = await open('allocated', whole, others)
    const areas = new AreaList()
    areas.add({ offset: 0, length: disk.capacityBytes })
    return { planned, transfer: { disk, mode: 'full', areas, reason: `only ${planned.transport} works, which reads whole disks` } }
  }
}
