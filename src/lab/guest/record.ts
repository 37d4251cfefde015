import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { SECTOR, writeU64 } from '../../core/index.ts'
import { type GuestImage, PAYLOAD_BLOCK, payloadAt, payloadOf, type RecordArea, slotAt } from './record-area.ts'

/*
 * A record is one sector {8 bytes "VCBRECRD", u64 number, u32 state, u32 payload blocks, per block 32 bytes SHA-256, CRC-32 in the last 4
 * bytes}. Written in three steps: slot says "writing n", payload blocks, slot says "done n". So whatever moment a disk is frozen
 * at, at most the newest slot is unfinished, and every finished record's payload is whole.
 */
const MAGIC = 'VCBRECRD'
export const STATE_WRITING = 1
export const STATE_DONE = 2

export type Slot = { readonly number: number; readonly state: number; readonly sums: readonly string[] }

/** One after the other: the writes of record `number` on one disk. The caller may stop between any two of them. */
export function* recordWrites(area: RecordArea, number: number): Generator<{ readonly offset: number; readonly data: Uint8Array }> {
  const blocks = Array.from({ length: area.perRecord }, (_, index) => payloadOf(area, number, index))
  yield { offset: slotAt(area, number), data: slotSector(number, STATE_WRITING, []) }
  for (const [index, data] of blocks.entries()) yield { offset: payloadAt(area, number, index), data }
  const sums = blocks.map((block) => createHash('sha256').update(block).digest())
  yield { offset: slotAt(area, number), data: slotSector(number, STATE_DONE, sums) }
}

function slotSector(number: number, state: number, sums: readonly Uint8Array[]): Uint8Array {
  const sector = Buffer.alloc(SECTOR)
  sector.write(MAGIC, 'latin1')
  writeU64(sector, 8, number)
  sector.writeUInt32LE(state, 16)
  sector.writeUInt32LE(sums.length, 20)
  for (const [index, sum] of sums.entries()) sector.set(sum, 24 + index * 32)
  sector.writeUInt32LE(crc32(sector.subarray(0, SECTOR - 4)), SECTOR - 4)
  return sector
}

/** `empty` for a slot never written, `damaged` for one that is neither. */
export function parseSlot(sector: Buffer): Slot | 'empty' | 'damaged' {
  if (sector.every((byte) => byte === 0)) return 'empty'
  if (sector.toString('latin1', 0, 8) !== MAGIC || sector.readUInt32LE(SECTOR - 4) !== crc32(sector.subarray(0, SECTOR - 4)))
    return 'damaged'
  const count = Math.min(8, sector.readUInt32LE(20))
  const sums = Array.from({ length: count }, (_, index) => sector.toString('hex', 24 + index * 32, 56 + index * 32))
  return { number: Number(sector.readBigUInt64LE(8)), state: sector.readUInt32LE(16), sums }
}

/** All slots of an image by index. */
export function readSlots(image: GuestImage, area: RecordArea): (Slot | 'empty' | 'damaged')[] {
  const ring = Buffer.alloc(area.slots * SECTOR)
  image.read(area.start, ring)
  return Array.from({ length: area.slots }, (_, index) => parseSlot(ring.subarray(index * SECTOR, (index + 1) * SECTOR)))
}

/** Number of the last finished record; 0 when there is none. */
export function lastFinished(slots: readonly (Slot | 'empty' | 'damaged')[]): number {
  let last = 0
  for (const slot of slots) if (typeof slot === 'object' && slot.state === STATE_DONE) last = Math.max(last, slot.number)
  return last
}

/** True when the payload of a finished record is what was written. */
export function payloadIntact(image: GuestImage, area: RecordArea, slot: Slot): boolean {
  const block = new Uint8Array(PAYLOAD_BLOCK)
  if (slot.sums.length !== area.perRecord) return false
  return slot.sums.every((sum, index) => {
    image.read(payloadAt(area, slot.number, index), block)
    return createHash('sha256').update(block).digest('hex') === sum
  })
}

/** True when any payload block of record `number` is on the image. */
export function holdsPayload(image: GuestImage, area: RecordArea, number: number): boolean {
  const block = new Uint8Array(PAYLOAD_BLOCK)
  for (let index = 0; index < area.perRecord; index++) {
    image.read(payloadAt(area, number, index), block)
    if (Buffer.compare(block, payloadOf(area, number, index)) === 0) return true
  }
  return false
}
