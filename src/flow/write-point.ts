import type { BackupMode, DiskFacts, PointId } from '../core/index.ts'
import type { BackupWriter, Locking } from '../provider/index.ts'
import type { OpenOptions } from '../transport/index.ts'
import type { BackupDeps, BackupProgress, BackupRequest } from './backup-types.ts'
import { readConfigurationFiles } from './configuration-files.ts'
import { storeOf } from './disks-to-read.ts'
import { exportedConfiguration } from './exported-configuration.ts'
import type { Frozen } from './frozen.ts'
import { openTransfer } from './open-transfer.ts'
import type { ParentPoint } from './parent-point.ts'
import type { DiskTransfer } from './plan-transfers.ts'
import { sideBySide } from './side-by-side.ts'

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
  const building = modeOf(transfers) === 'incremental' || (deps.provider.digests.ok && transfers.some(({ compare }) => compare === true))
  await using writer = await deps.provider.begin(
    { config, run: request.run, time: snapshot.createdAt, parent: building ? parent?.id : undefined },
    options,
  )
  const saved = await readConfigurationFiles(deps.vsphere, config, warnings, options)
  const keys = transfers.map(({ disk }) => disk.key)
  const files = deps.provider.exports === true ? exportedConfiguration(config, saved, keys, warnings) : saved
  for (const file of files) await writer.putFile(file.name, file.body, options)
  for (const file of frozen.files) await writer.putFile(file.name, file.body, options)

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
  await using _stream = store === undefined ? undefined : await deps.limits.stream(store, options)
  const { disk } = wanted
  const at = { vm: request.vm.name, disk: disk.label }
  const comparing = { ...at, step: 'compare', totalBytes: disk.capacityBytes } as const
  const { planned, transfer, digestedBytes, sampledBytes } = await openTransfer(deps, frozen, wanted, writer, {
    ...options,
    onCompared: (doneBytes) => options.onProgress?.({ ...comparing, doneBytes }),
  })
  await using source = deps.limits.gently(planned.source, store)
  const { areas } = transfer
  const totalBytes = areas.bytes
  const report = (doneBytes: number): void => options.onProgress?.({ ...at, step: 'read', doneBytes, totalBytes })
  report(0)
  const since = deps.clock.monotonicMs()
  const written = await writer.putDisk(
    disk,
    source,
    { mode: transfer.mode, ranges: areas, readAround: planned.local },
    { signal: options.signal, onProgress: ({ doneBytes }) => report(doneBytes) },
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
    selectedBy: transfer.selectedBy,
    digestedBytes,
    transport: planned.transport,
    transportReason: planned.reason,
    refused: planned.refused,
    resumed: planned.resumed === 0 ? undefined : planned.resumed,
    readMs: Math.round(deps.clock.monotonicMs() - since),
    ...written,
    readBytes: written.readBytes + (sampledBytes ?? 0),
  }
}

const modeOf = (disks: readonly { readonly mode: BackupMode }[]): BackupMode =>
  disks.some((disk) => disk.mode === 'incremental') ? 'incremental' : 'full'
