import { type DiskRef, toAgentError, type TransportName } from '../core/index.ts'
import type { BackupWriter } from '../provider/index.ts'
import { NoTransportError, openPlanned, type OpenOptions, type PlannedDisk, type Refusal, type Transport } from '../transport/index.ts'
import { AreaList } from './area-list.ts'
import type { BackupDeps } from './backup-types.ts'
import { compareDigests } from './compare-digests.ts'
import type { Frozen } from './frozen.ts'
import type { DiskTransfer } from './plan-transfers.ts'

/** A disk, open, and what of it is transferred in the end. */
export type OpenTransfer = {
  readonly planned: PlannedDisk
  readonly transfer: DiskTransfer
  /** What a comparison of digests cost, bytes; undefined where there was none. */
  readonly digestedBytes?: number | undefined
  readonly sampledBytes?: number | undefined
}

type Options = OpenOptions & { readonly onCompared?: ((doneBytes: number) => void) | undefined }

/**
 * Opens a disk. Where nothing that can read the changed areas alone works, but something that reads whole disks does, the disk is read in full and
 * says why; where change tracking has no answer, digests are compared with the parent point, if both sides tell them.
 */
export async function openTransfer(
  deps: BackupDeps,
  frozen: Frozen,
  wanted: DiskTransfer,
  writer: BackupWriter,
  options: Options,
): Promise<OpenTransfer> {
  const { digests } = deps.provider
  if (wanted.mode === 'full' && (wanted.compare !== true || !digests.ok)) {
    const planned = await open(deps, frozen, wanted, 'allocated', options)
    return wanted.compare === true && !digests.ok ? uncompared(deps, planned, wanted, digests.reason) : { planned, transfer: wanted }
  }
  const { planned, whole } = await openForPart(deps, frozen, wanted, options)
  if (wanted.mode === 'full' && planned.digests === undefined && standsBehind(planned.transport, deps.transports)) {
    // It was taken for its digests; without them the order counts as for every full read.
    const { transport } = planned
    await planned.source[Symbol.asyncDispose]()
    const first = await open(deps, frozen, wanted, 'allocated', options)
    return uncompared(deps, first, wanted, `${transport} computes none`)
  }
  const onlyWhole = `only ${planned.transport} works, which reads whole disks`
  try {
    if (wanted.mode === 'incremental') return { planned, transfer: whole ? wholeDisk(wanted.disk, onlyWhole) : wanted }
    return whole ? uncompared(deps, planned, wanted, onlyWhole) : await compared(deps, planned, wanted, writer, options)
  } catch (error) {
    await planned.source[Symbol.asyncDispose]()
    throw error
  }
}

/** A transport that reads whole disks stands before it in the order. */
const standsBehind = (name: TransportName, transports: readonly Transport[]): boolean =>
  transports
    .slice(
      0,
      transports.findIndex((transport) => transport.name === name),
    )
    .some(({ wholeDisks }) => wholeDisks === true)

function wholeDisk(disk: DiskRef, reason: string): DiskTransfer {
  const areas = new AreaList()
  areas.add({ offset: 0, length: disk.capacityBytes })
  return { disk, mode: 'full', selectedBy: 'allocated', areas, reason }
}

function open(
  deps: BackupDeps,
  { config, snapshot }: Frozen,
  { disk }: DiskTransfer,
  wanted: 'allocated' | 'changed',
  { signal, claims }: OpenOptions,
  only: { readonly transports: readonly Transport[]; readonly refused: readonly Refusal[] } = { transports: deps.transports, refused: [] },
): Promise<PlannedDisk> {
  const { log, clock, reopen } = deps
  const { refused } = only
  return openPlanned({ snapshot, config, disk, wanted }, only.transports, {
    log,
    clock,
    reopen,
    signal,
    claims,
    onWait: deps.limits.onWait,
    refused,
  })
}

/** By something that can read a part of the disk, or else by something that reads it whole. */
async function openForPart(
  deps: BackupDeps,
  frozen: Frozen,
  transfer: DiskTransfer,
  options: Options,
): Promise<{ readonly planned: PlannedDisk; readonly whole: boolean }> {
  try {
    return { planned: await open(deps, frozen, transfer, 'changed', options), whole: false }
  } catch (error) {
    const transports = deps.transports.filter(({ wholeDisks }) => wholeDisks === true)
    if (!(error instanceof NoTransportError) || transports.length === 0) throw error
    // Only these are asked again: another one that works by now was away for a moment, which is no reason to read everything.
    const refused = error.refused.filter((refusal) => !transports.some(({ name }) => name === refusal.transport))
    return { planned: await open(deps, frozen, transfer, 'allocated', options, { transports, refused }), whole: true }
  }
}

/** The whole transfer as it was planned, with why nothing could be left out of it. */
function uncompared(deps: BackupDeps, planned: PlannedDisk, transfer: DiskTransfer, why: string): OpenTransfer {
  deps.log.info('digests are not compared', { disk: transfer.disk.label, transport: planned.transport, reason: why })
  return { planned, transfer: { ...transfer, reason: `${transfer.reason}; not compared by digests: ${why}` } }
}

/** The blocks that differ from the parent's; the whole transfer when that cannot be told. */
async function compared(
  deps: BackupDeps,
  planned: PlannedDisk,
  transfer: DiskTransfer,
  writer: BackupWriter,
  { signal, onCompared }: Options,
): Promise<OpenTransfer> {
  const { disk } = transfer
  const whole = (why: string): OpenTransfer => uncompared(deps, planned, transfer, why)
  if (writer.parentDigests === undefined) return whole('this destination tells none')
  const { source, digests } = planned
  if (digests === undefined) return whole(`${planned.transport} computes none`)
  deps.log.info('comparing digests with the last point', { disk: disk.label, transport: planned.transport })
  try {
    const parent = await writer.parentDigests(disk, { signal })
    const { areas, ...cost } = await compareDigests({ source, digests }, parent, { signal, onProgress: onCompared })
    deps.log.info('digests were compared', { disk: disk.label, differing: areas.bytes, ...cost })
    const reason = `${transfer.reason}; digests of its blocks were compared with the last point`
    return { planned, transfer: { disk, mode: 'incremental', selectedBy: 'digests', areas, reason }, ...cost }
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return whole(shown.message.replace(/\.$/, ''))
  }
}
