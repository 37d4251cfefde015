import { type Abortable, type BackupMode, type DiskRef, type SelectedBy, type SnapshotRef, toAgentError } from '../core/index.ts'
import { changeBase, type Snapshots } from '../snapshot/index.ts'
import { AreaList } from './area-list.ts'
import type { ParentPoint } from './parent-point.ts'

/** One disk, what of it is to be transferred, and why so. */
export type DiskTransfer = {
  readonly disk: DiskRef
  readonly mode: BackupMode
  readonly selectedBy: SelectedBy
  readonly reason: string
  readonly areas: AreaList
  /** The parent holds it in its present size: where digests can be compared, only what differs is transferred, whatever tracking knows. */
  readonly compare?: boolean | undefined
}

export type TransferQuestion = {
  readonly snapshot: SnapshotRef
  readonly disks: readonly DiskRef[]
  readonly parent: ParentPoint | undefined
  /** Why there is no parent. */
  readonly reason: string
  /**
   * Whether the map of allocated areas (`"*"`) can be trusted: not when the VM had snapshots of its own, under which tracking may have been
   * switched on late.
   */
  readonly allocatedMap: boolean
  /** Why change tracking is not in use; said with the reason of every full read. */
  readonly untracked?: string | undefined
}

/**
 * Decides for each disk, before a byte is read, which areas to transfer. Any doubt about change tracking (another changeId uuid, another
 * capacity, a fault, an answer that does not add up) makes that disk a full read with the reason; never an empty list.
 */
export async function planTransfers(
  snapshots: Snapshots,
  question: TransferQuestion,
  options?: Abortable,
): Promise<readonly DiskTransfer[]> {
  const transfers: DiskTransfer[] = []
  for (const disk of question.disks) {
    const transfer = await planDisk(snapshots, question, disk, options)
    const why = transfer.mode === 'full' && question.untracked !== undefined ? `; ${question.untracked}` : ''
    transfers.push({ ...transfer, reason: `${transfer.reason}${why}` })
  }
  return transfers
}

async function planDisk(snapshots: Snapshots, question: TransferQuestion, disk: DiskRef, options?: Abortable): Promise<DiskTransfer> {
  const { snapshot, parent } = question
  if (parent === undefined) return { ...(await planFull(snapshots, question, disk, options)), reason: question.reason }
  const before = parent.manifest.disks.find((facts) => facts.key === disk.key)
  const full = async (reason: string): Promise<DiskTransfer> => ({
    ...(await planFull(snapshots, question, disk, options)),
    reason,
    compare: before?.capacityBytes === disk.capacityBytes,
  })
  const base = changeBase(before, disk)
  if (!base.use) return full(base.reason)
  try {
    const areas = await AreaList.from(snapshots.changed(snapshot, disk, base.changeId, options))
    return { disk, mode: 'incremental', selectedBy: 'changedAreas', reason: base.reason, areas }
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return full(`change tracking gave no usable answer: ${shown.message.replace(/\.$/, '')}`)
  }
}

/** The allocated areas where the map can be trusted, else the whole disk; a source that knows its holes skips those anyway. */
async function planFull(
  snapshots: Snapshots,
  { snapshot, allocatedMap }: TransferQuestion,
  disk: DiskRef,
  options?: Abortable,
): Promise<Omit<DiskTransfer, 'reason'>> {
  if (allocatedMap && disk.changeId !== undefined) {
    try {
      return { disk, mode: 'full', selectedBy: 'allocated', areas: await AreaList.from(snapshots.allocated(snapshot, disk, options)) }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    }
  }
  const areas = new AreaList()
  areas.add({ offset: 0, length: disk.capacityBytes })
  return { disk, mode: 'full', selectedBy: 'allocated', areas }
}
