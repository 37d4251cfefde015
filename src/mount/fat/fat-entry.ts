import type { FatShape } from '../volumes/fat-shape.ts'

export const ENTRY = 32

const READ_ONLY = 0x01
const VOLUME_ID = 0x08
const DIRECTORY = 0x10
const LONG_NAME = 0x0f
const ATTRIBUTES = 0x3f

/** What an entry of 32 bytes says of its file, beside its name. Bytes. */
export type FatEntry = {
  readonly directory: boolean
  readonly readOnly: boolean
  /** 0: it has none. */
  readonly cluster: number
  readonly size: number
  readonly modified: Date
}

export type FatEntryKind = 'end' | 'deleted' | 'long name' | 'label' | 'itself' | 'file'

/** What kind of entry it is; `itself`: `.` or `..`. */
export function kindOfEntry(entry: Buffer): FatEntryKind {
  const first = entry.readUInt8(0)
  if (first === 0) return 'end'
  if (first === 0xe5) return 'deleted'
  const attributes = entry.readUInt8(11)
  if ((attributes & ATTRIBUTES) === LONG_NAME) return 'long name'
  if ((attributes & VOLUME_ID) !== 0) return 'label'
  return first === 0x2e ? 'itself' : 'file'
}

export function readEntry(entry: Buffer, { bits }: Pick<FatShape, 'bits'>): FatEntry {
  const attributes = entry.readUInt8(11)
  const directory = (attributes & DIRECTORY) !== 0
  return {
    directory,
    readOnly: (attributes & READ_ONLY) !== 0,
    // FAT12 and FAT16 may keep other things in the upper half.
    cluster: entry.readUInt16LE(26) + (bits === 32 ? entry.readUInt16LE(20) * 0x1_0000 : 0),
    size: directory ? 0 : entry.readUInt32LE(28),
    modified: moment(entry.readUInt16LE(24), entry.readUInt16LE(22)),
  }
}

/** Years from 1980 on, and a clock of no zone, which is taken for UTC: so it does not depend on where this proxy stands. What is no date is the nearest one. */
function moment(date: number, time: number): Date {
  const [month, day] = [Math.max(1, (date >>> 5) & 15), Math.max(1, date & 31)]
  return new Date(Date.UTC(1980 + (date >>> 9), month - 1, day, time >>> 11, (time >>> 5) & 63, (time & 31) * 2))
}
