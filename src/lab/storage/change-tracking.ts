import type { Range } from '../../core/index.ts'
import { type ChangeLog, TRACKED_BLOCK } from './change-log.ts'
import type { DiskView } from './disk-view.ts'
import { LabStorageError } from './storage-error.ts'

export type ChangedAreas = {
  readonly startOffset: number
  /** Bytes covered by this answer, from startOffset. */
  readonly length: number
  readonly areas: readonly { readonly start: number; readonly length: number }[]
}

export type AreasRequest = {
  /** `"*"` or a changeId. */
  readonly changeId: string
  /** changeId of the snapshot asked about; absent = the disk as it is. */
  readonly until?: string | undefined
  readonly startOffset: number
  /** Default 2000. */
  readonly maxAreas?: number | undefined
  /** For `"*"`: the snapshot's view; default the disk itself. */
  readonly view?: DiskView | undefined
}

/** Change tracking of one disk, kept in `x-ctk.vmdk` beside its base (the lab's own layout). 64 KiB blocks. Never misses a change. */
export interface ChangeTracking {
  readonly enabled: boolean
  /** `52 de … 65 63/81`; undefined when off. */
  readonly changeId: string | undefined
  /** Makes the file, sets `changeTrackPath`; idempotent. */
  enable(): void
  disable(): void
  /** All is forgotten, a new uuid: host crash, move, revert. */
  reset(): void
  /** NoTrack, NoEpoch, UnknownChangeId, InvalidOffset, CannotGetChanges. */
  areas(request: AreasRequest): ChangedAreas
}

export type TrackedDisk = {
  readonly size: number
  readonly log: () => ChangeLog | undefined
  readonly enable: () => void
  readonly disable: () => void
  readonly allocated: (range: Range) => Generator<Range>
}

const MAX_AREAS = 2000

export function trackingOf(disk: TrackedDisk): ChangeTracking {
  return {
    get enabled() {
      return disk.log() !== undefined
    },
    get changeId() {
      return disk.log()?.changeId
    },
    enable: disk.enable,
    disable: disk.disable,
    reset: () => disk.log()?.reset(),
    areas: (request) => answer(disk, request),
  }
}

function answer(disk: TrackedDisk, request: AreasRequest): ChangedAreas {
  const log = disk.log()
  const { changeId, until, startOffset } = request
  if (log === undefined) throw new LabStorageError('NoTrack', 'Change tracking is not active on this disk.', changeId)
  if (log.damaged) throw new LabStorageError('CannotGetChanges', `The change tracking file ${log.path} is damaged.`, log.path)
  const size = request.view?.size ?? disk.size
  if (!Number.isSafeInteger(startOffset) || startOffset < 0 || startOffset >= size) {
    throw new LabStorageError('InvalidOffset', `startOffset ${startOffset} is not inside the disk of ${size} bytes.`, `${startOffset}`)
  }
  const last = until === undefined ? log.current : log.epochOf(until)
  if (changeId === '*') {
    if (last === undefined) {
      throw new LabStorageError('NoEpoch', 'The snapshot was made before change tracking became active on this disk.', `${until}`)
    }
    const range = { offset: startOffset, length: size - startOffset }
    return windowOf(request.view?.allocated(range) ?? disk.allocated(range), startOffset, size, request.maxAreas)
  }
  const first = log.epochOf(changeId)
  if (first === undefined) throw new LabStorageError('UnknownChangeId', `The changeId ${changeId} is not one of this disk.`, changeId)
  if (last === undefined) {
    throw new LabStorageError('CannotGetChanges', 'The snapshot was made before change tracking started anew.', `${until}`)
  }
  if (first > last) throw new LabStorageError('UnknownChangeId', `The changeId ${changeId} is later than the snapshot.`, changeId)
  if (last < log.floor) throw new LabStorageError('CannotGetChanges', 'The snapshot is older than what change tracking keeps.', `${until}`)
  return windowOf(blockRanges(log.runs(first, last)), startOffset, size, request.maxAreas)
}

function* blockRanges(runs: Iterable<readonly [number, number]>): Generator<Range> {
  for (const [first, count] of runs) yield { offset: first * TRACKED_BLOCK, length: count * TRACKED_BLOCK }
}

/** At most `maxAreas` areas widened to whole blocks; the window ends with the last area when there are more, else with the disk. */
function windowOf(ranges: Iterable<Range>, startOffset: number, size: number, maxAreas = MAX_AREAS): ChangedAreas {
  const areas: { start: number; length: number }[] = []
  const limit = Math.max(1, Math.floor(maxAreas))
  for (const range of ranges) {
    const start = Math.max(startOffset, Math.floor(range.offset / TRACKED_BLOCK) * TRACKED_BLOCK)
    const end = Math.min(size, Math.ceil((range.offset + range.length) / TRACKED_BLOCK) * TRACKED_BLOCK)
    if (end <= start) continue
    const last = areas.at(-1)
    if (last !== undefined && start <= last.start + last.length) {
      last.length = Math.max(last.length, end - last.start)
    } else if (areas.length === limit && last !== undefined) {
      return { startOffset, length: last.start + last.length - startOffset, areas }
    } else {
      areas.push({ start, length: end - start })
    }
  }
  return { startOffset, length: size - startOffset, areas }
}
