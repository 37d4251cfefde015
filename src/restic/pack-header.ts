import { AgentError } from '../core/index.ts'
import { BlobRecords, DATA, TREE } from './blob-records.ts'
import { ID_BYTES } from './ids.ts'
import { SEAL_OVERHEAD } from './sealing.ts'

const PLAIN_ENTRY = 1 + 4 + ID_BYTES
const COMPRESSED_ENTRY = PLAIN_ENTRY + 4
/** restic refuses longer headers. */
export const MAX_HEADER_BYTES = 16 * 1024 * 1024
/** Type byte of a compressed blob = type + 2. */
const COMPRESSED = 2

/** Bytes of a blob's line in the header of its pack. */
export const headerEntryBytes = (uncompressedLength: number): number => (uncompressedLength === 0 ? PLAIN_ENTRY : COMPRESSED_ENTRY)

/** Bytes of a pack's end: sealed header and its length, for `blobs` compressed blobs. An upper bound. */
export const packTailBytes = (blobs: number): number => blobs * COMPRESSED_ENTRY + SEAL_OVERHEAD + 4

/** The plain header of a pack: one entry a blob, in order. */
export function encodePackHeader(blobs: BlobRecords): Buffer {
  const header = Buffer.alloc(blobs.count * COMPRESSED_ENTRY)
  let at = 0
  for (let index = 0; index < blobs.count; index++) {
    const { type, length, uncompressedLength } = blobs.place(index)
    header[at] = uncompressedLength === 0 ? type : type + COMPRESSED
    header.writeUInt32LE(length, at + 1)
    at += 5
    if (uncompressedLength !== 0) {
      header.writeUInt32LE(uncompressedLength, at)
      at += 4
    }
    header.set(blobs.id(index), at)
    at += ID_BYTES
  }
  return header.subarray(0, at)
}

/** Parses a plain header; offsets are the running sum of lengths. INTEGRITY, naming `pack`, for anything out of form. */
export function parsePackHeader(header: Buffer, pack: string): BlobRecords {
  const blobs = new BlobRecords()
  let offset = 0
  for (let at = 0; at < header.length; ) {
    const kind = header[at] ?? 255
    const compressed = kind >= COMPRESSED
    const size = compressed ? COMPRESSED_ENTRY : PLAIN_ENTRY
    if (kind > TREE + COMPRESSED || at + size > header.length) {
      throw new AgentError('INTEGRITY', `The header of pack ${pack} is damaged at byte ${at}.`, { subject: pack })
    }
    const length = header.readUInt32LE(at + 1)
    const uncompressedLength = compressed ? header.readUInt32LE(at + 5) : 0
    if (length < SEAL_OVERHEAD || (compressed && uncompressedLength === 0) || offset + length > 0xffff_ffff) {
      throw new AgentError('INTEGRITY', `The header of pack ${pack} names a blob of ${length} bytes, which cannot be.`, { subject: pack })
    }
    const type = kind % COMPRESSED === TREE ? TREE : DATA
    blobs.add(header.subarray(at + size - ID_BYTES, at + size), { type, offset, length, uncompressedLength })
    offset += length
    at += size
  }
  return blobs
}
