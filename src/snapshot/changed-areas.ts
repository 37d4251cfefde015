import { type Abortable, AgentError, type DiskRef, type Range, rangeEnd, throwIfAborted } from '../core/index.ts'
import { type ChangedWindow, faultOf } from '../vsphere/index.ts'

/** One QueryChangedDiskAreas call from `startOffset` on. */
export type QueryWindow = (startOffset: number) => Promise<ChangedWindow>

/**
 * Asks window by window until the disk is covered and yields the areas: ordered, merged, inside the disk. Holds one window.
 *
 * A window may be empty without being the last, and the last may end anywhere but behind the disk. INTEGRITY when the answers cannot be
 * trusted (another start than asked, no progress, areas outside their window or overlapping, an end behind the disk) or the server says that it
 * has no map; then nothing yielded before may be used: read the disk in full.
 */
export async function* changedAreas(disk: DiskRef, query: QueryWindow, options?: Abortable): AsyncGenerator<Range> {
  let pending: Range | undefined
  for (let offset = 0; offset < disk.capacityBytes; ) {
    throwIfAborted(options)
    const window = await translated(disk, query, offset)
    checkWindow(disk, window, offset)
    for (const area of orderedAreas(disk, window)) {
      if (pending !== undefined && rangeEnd(pending) === area.offset) {
        pending = { offset: pending.offset, length: pending.length + area.length }
      } else {
        if (pending !== undefined) yield pending
        pending = area
      }
    }
    offset = window.startOffset + window.length
  }
  if (pending !== undefined) yield pending
}

function checkWindow(disk: DiskRef, window: ChangedWindow, asked: number): void {
  const { startOffset, length } = window
  if (startOffset !== asked) throw lied(disk, `was asked from ${asked} and answered from ${startOffset}`)
  if (!Number.isSafeInteger(length) || length <= 0) throw lied(disk, `answered for ${length} bytes at ${asked}, which leads nowhere`)
  if (startOffset + length > disk.capacityBytes) {
    throw lied(disk, `lied about its end: ${startOffset + length} is behind the disk's ${disk.capacityBytes} bytes`)
  }
}

function orderedAreas(disk: DiskRef, window: ChangedWindow): readonly Range[] {
  const areas = window.areas.toSorted((a, b) => a.offset - b.offset)
  let end = window.startOffset
  for (const area of areas) {
    if (!Number.isSafeInteger(area.offset) || !Number.isSafeInteger(area.length) || area.length <= 0) {
      throw lied(disk, `named an area of ${area.length} bytes at ${area.offset}`)
    }
    if (area.offset < end) throw lied(disk, `named areas that overlap at ${area.offset}`)
    end = rangeEnd(area)
    if (end > window.startOffset + window.length) throw lied(disk, `named an area that ends at ${end}, outside its own answer`)
  }
  return areas
}

const lied = (disk: DiskRef, what: string): AgentError =>
  new AgentError('INTEGRITY', `Change tracking of ${disk.label} ${what}.`, {
    subject: disk.label,
    next: 'The disk has to be read in full; reset change tracking of the VM when this repeats.',
  })

async function translated(disk: DiskRef, query: QueryWindow, offset: number): Promise<ChangedWindow> {
  try {
    return await query(offset)
  } catch (error) {
    const why = meaning(error)
    if (why === undefined) throw error
    throw new AgentError('INTEGRITY', `Change tracking of ${disk.label} has no answer: ${why}.`, {
      subject: disk.label,
      cause: error,
      next: 'The disk has to be read in full; reset change tracking of the VM when this repeats.',
    })
  }
}

/** Faults that mean "no map", in words; undefined for everything else (no permission, connection, cancel). */
function meaning(error: unknown): string | undefined {
  const fault = faultOf(error)
  if (fault === undefined) return undefined
  const keys = [...fault.messageKeys, fault.message].join(' ')
  if (/noTrack/i.test(keys)) return 'tracking is off or has not taken hold yet'
  if (/noEpoch/i.test(keys)) return 'there is no record since the disk was made'
  if (/cannotGetChanges/i.test(keys)) return 'its tracking file is damaged'
  if (fault.faultName === 'InvalidArgument') {
    const property = fault.detail?.string('invalidProperty') ?? ''
    return property === 'changeId'
      ? 'the stored change id is not valid any more'
      : `it does not accept ${property === '' ? 'the question' : property}`
  }
  return fault.faultName === 'FileFault' ? 'the host cannot read its tracking file' : undefined
}
