import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { isZero, MIB, type Range, readU64, SECTOR, writeU64 } from '../../core/index.ts'

/*
 * Where a disk keeps its records. One sector of header 64 KiB before the disk's end (found from the size alone, clear of a backup GPT), the
 * ring of record slots (one sector each) and the payload blocks before it, in the area behind the last partition, or anywhere on a
 * blank disk. Layout: docs/formats/lab-guest-records.md.
 */

/** What the guest needs of a disk; a `LabDisk` is one. */
export interface GuestDisk {
  readonly size: number
  read(offset: number, into: Uint8Array): void
  /** Whole sectors. */
  write(offset: number, data: Uint8Array): void
  unmap(range: { readonly offset: number; readonly length: number }): void
}

/** Anything readable; a view of storage is one. */
export interface GuestImage {
  readonly size: number
  read(offset: number, into: Uint8Array): void
}

export type RecordArea = {
  readonly seed: number
  /** Position of this disk among the guest's disks when it was first seen. */
  readonly ordinal: number
  /** Bytes of the disk that hold slots and payload. */
  readonly start: number
  readonly end: number
  readonly slots: number
  /** Payload blocks of one record. */
  readonly perRecord: number
}

export const PAYLOAD_BLOCK = 4096
const MAGIC = 'VCBGUEST'
const TAIL = 64 * 1024
const MIN_AREA = 160 * 1024
const MAX_SLOTS = 512
const MAX_PER_RECORD = 4

const headerAt = (size: number): number => Math.floor((size - TAIL) / PAYLOAD_BLOCK) * PAYLOAD_BLOCK

/** The area described on the image; undefined when there is none. */
export function findArea(image: GuestImage): RecordArea | undefined {
  const at = headerAt(image.size)
  if (at < MIN_AREA) return undefined
  const sector = Buffer.alloc(SECTOR)
  image.read(at, sector)
  if (sector.toString('latin1', 0, 8) !== MAGIC || sector.readUInt32LE(SECTOR - 4) !== crc32(sector.subarray(0, SECTOR - 4)))
    return undefined
  const area = {
    seed: sector.readUInt32LE(8),
    ordinal: sector.readUInt32LE(12),
    start: readU64(sector, 16, 'start'),
    end: readU64(sector, 24, 'end'),
    slots: sector.readUInt32LE(32),
    perRecord: sector.readUInt32LE(36),
  }
  const fits =
    area.start < area.end && area.end <= image.size && area.slots > 0 && area.slots <= MAX_SLOTS && area.perRecord <= MAX_PER_RECORD
  return fits && blockCount(area) >= area.slots * area.perRecord ? area : undefined
}

/** Lays out and writes the header on a disk that has none; undefined when there is no room behind its partitions. */
export function makeArea(disk: GuestDisk, seed: number, ordinal: number): RecordArea | undefined {
  const end = headerAt(disk.size)
  const start = firstFree(disk)
  if (start === undefined || end - start < MIN_AREA) return undefined
  const blocks = Math.floor((end - start) / PAYLOAD_BLOCK)
  const perRecord = MAX_PER_RECORD
  const slots = Math.max(8, Math.min(MAX_SLOTS, Math.floor(blocks / (perRecord * 64))))
  const area = { seed: seed >>> 0, ordinal, start, end, slots, perRecord }
  if (blockCount(area) < slots * perRecord) return undefined
  const sector = Buffer.alloc(SECTOR)
  sector.write(MAGIC, 'latin1')
  sector.writeUInt32LE(area.seed, 8)
  sector.writeUInt32LE(ordinal, 12)
  writeU64(sector, 16, start)
  writeU64(sector, 24, end)
  sector.writeUInt32LE(slots, 32)
  sector.writeUInt32LE(perRecord, 36)
  sector.writeUInt32LE(crc32(sector.subarray(0, SECTOR - 4)), SECTOR - 4)
  disk.write(end, sector)
  return area
}

/** Bytes of the slot ring, rounded to payload blocks. */
const ringBytes = (slots: number): number => Math.ceil((slots * SECTOR) / PAYLOAD_BLOCK) * PAYLOAD_BLOCK
const blockCount = (area: Pick<RecordArea, 'start' | 'end' | 'slots'>): number =>
  Math.floor((area.end - area.start - ringBytes(area.slots)) / PAYLOAD_BLOCK)

export const slotAt = (area: RecordArea, record: number): number => area.start + (record % area.slots) * SECTOR

/** Offset of payload block `index` of the slot that holds `record`: fixed to the slot, scattered over the area, no two alike. */
export function payloadAt(area: RecordArea, record: number, index: number): number {
  const used = area.slots * area.perRecord
  const stride = Math.floor(blockCount(area) / used)
  // A step without common divisor visits every place once.
  let step = Math.max(1, Math.floor(used * 0.618)) | 1
  while (greatestCommonDivisor(step, used) !== 1) step += 2
  const place = (((record % area.slots) * area.perRecord + index) * step + (area.seed % used)) % used
  return area.start + ringBytes(area.slots) + place * stride * PAYLOAD_BLOCK
}

/** Where payload may lie, and other writes between it. */
export function payloadRange(area: RecordArea): Range {
  const offset = area.start + ringBytes(area.slots)
  return { offset, length: area.end - offset }
}

/** The parts of `range` (inside `payloadRange`) that hold no payload of any record. */
export function* withoutPayload(area: RecordArea, range: Range): Generator<Range> {
  const used = area.slots * area.perRecord
  const stride = Math.floor(blockCount(area) / used) * PAYLOAD_BLOCK
  const base = area.start + ringBytes(area.slots)
  const end = range.offset + range.length
  let position = range.offset
  for (let place = Math.max(0, Math.floor((position - base) / stride)); position < end; place++) {
    const start = place < used ? base + place * stride : end
    if (start > position) yield { offset: position, length: Math.min(start, end) - position }
    position = Math.max(position, start + PAYLOAD_BLOCK)
  }
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b))

/** Payload of block `index` of record `record` on disk `ordinal`: every byte follows from the seed. */
export function payloadOf(area: RecordArea, record: number, index: number): Uint8Array {
  const block = Buffer.alloc(PAYLOAD_BLOCK)
  const key = createHash('sha256').update(`${area.seed}/${area.ordinal}/${record}/${index}`).digest()
  // Half of it repeats and half does not, as guests' data: compressible, but no two blocks alike.
  block.fill(key, 0, PAYLOAD_BLOCK / 2)
  let state = key.readUInt32LE(0) | 1
  for (let at = PAYLOAD_BLOCK / 2; at < PAYLOAD_BLOCK; at += 4) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    block.writeInt32LE(state, at)
  }
  return block
}

/** First byte behind all partitions; 1 MiB (64 KiB on a tiny disk) on a blank one; undefined for a disk with other contents. */
function firstFree(disk: GuestImage): number | undefined {
  const head = Buffer.alloc(Math.min(disk.size, 34 * SECTOR))
  disk.read(0, head)
  if (isZero(head)) return disk.size >= 8 * MIB ? MIB : TAIL
  if (head.readUInt16LE(510) !== 0xaa55) return undefined
  let end = 0
  if (head.toString('latin1', SECTOR, SECTOR + 8) === 'EFI PART') {
    const count = Math.min(128, head.readUInt32LE(SECTOR + 80))
    for (let entry = 0; entry < count; entry++) {
      const at = 2 * SECTOR + entry * 128
      if (!isZero(head.subarray(at, at + 16))) end = Math.max(end, (readU64(head, at + 40, 'last LBA') + 1) * SECTOR)
    }
  } else {
    for (let at = 446; at < 510; at += 16) {
      if (head[at + 4] !== 0) end = Math.max(end, (head.readUInt32LE(at + 8) + head.readUInt32LE(at + 12)) * SECTOR)
    }
  }
  return end === 0 ? undefined : Math.ceil(end / MIB) * MIB
}
