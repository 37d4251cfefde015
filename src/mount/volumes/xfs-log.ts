import { KIB, type Range, SECTOR } from '../../core/index.ts'
import type { Evidence } from './evidence.ts'

const RECORD_MAGIC = 0xfeedbabe
const UNMOUNT = 0x20
/** A record is 256 KiB at most, and its header 4 KiB. */
const FARTHEST = 320 * KIB
const STEP = 32 * KIB

/**
 * Whether the last record of an XFS log says that the file system was unmounted. The log is a ring: each sector begins with its cycle (a record's header has it
 * behind the magic), and where the cycle falls is the head. Undefined where the log is not inside the volume or holds no record. About thirty small reads.
 */
export async function isLogClean(evidence: Evidence, log: Range): Promise<boolean | undefined> {
  const sectors = Math.floor(log.length / SECTOR)
  if (sectors < 2 || !Number.isSafeInteger(log.offset) || log.offset < 0 || log.offset + log.length > evidence.size) return undefined
  const head = await findHead(evidence, log.offset, sectors)
  if (head === undefined) return undefined
  const record = await lastRecord(evidence, log, head === 0 ? sectors : head)
  if (record === undefined) return undefined
  const header = record.bytes
  const sizeOfBuffer = header.readUInt32BE(320)
  const headerSectors = (header.readUInt32BE(8) & 2) !== 0 && sizeOfBuffer > 32 * KIB ? Math.ceil(sizeOfBuffer / (32 * KIB)) : 1
  const end = record.sector + headerSectors + Math.ceil(header.readUInt32BE(12) / SECTOR)
  if (end % sectors !== head || header.readUInt32BE(40) !== 1) return false
  const operation = await evidence.part(log.offset + ((record.sector + headerSectors) % sectors) * SECTOR, SECTOR)
  return operation !== undefined && (operation.readUInt8(9) & UNMOUNT) !== 0
}

/** Sector behind the last one written; 0 when that is the last of the log. */
async function findHead(evidence: Evidence, start: number, sectors: number): Promise<number | undefined> {
  const cycleOf = async (sector: number): Promise<number | undefined> => {
    const bytes = await evidence.part(start + sector * SECTOR, SECTOR)
    const word = bytes?.readUInt32BE(0)
    return word === RECORD_MAGIC ? bytes?.readUInt32BE(4) : word
  }
  const first = await cycleOf(0)
  if (first === undefined || first === 0) return undefined
  if ((await cycleOf(sectors - 1)) === first) return 0
  let [low, high] = [0, sectors - 1]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if ((await cycleOf(middle)) === first) low = middle
    else high = middle
  }
  return high
}

/** The last header of a record before `head`; one that lies behind the seam of the ring is not looked for, which counts as not told. */
async function lastRecord(
  evidence: Evidence,
  log: Range,
  head: number,
): Promise<{ readonly sector: number; readonly bytes: Buffer } | undefined> {
  const lowest = Math.max(0, head * SECTOR - FARTHEST)
  for (let end = head * SECTOR; end > lowest; end -= STEP) {
    const from = Math.max(lowest, end - STEP)
    const bytes = await evidence.part(log.offset + from, end - from)
    if (bytes === undefined) return undefined
    for (let at = end - from - SECTOR; at >= 0; at -= SECTOR) {
      if (bytes.readUInt32BE(at) === RECORD_MAGIC) return { sector: (from + at) / SECTOR, bytes: bytes.subarray(at, at + SECTOR) }
    }
  }
  return undefined
}
