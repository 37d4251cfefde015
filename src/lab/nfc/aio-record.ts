/** AIO records: a header of 16 bytes, a payload whose length it tells, a tail that it does not. All numbers little-endian. */
export const HEADER_BYTES = 16
export const MAGIC = 0xa100da7a

export const RECORD = Object.freeze({
  error: 1,
  openSession: 2,
  closeSession: 3,
  openFile: 4,
  closeFile: 5,
  io: 7,
  socketOptions: 9,
  descriptorKey: 11,
  allocatedBlocks: 13,
  resourcePool: 22,
})

/** Payload lengths a request may have; of a type that is not here, any up to a bound. */
export const REQUEST_LENGTHS: ReadonlyMap<number, readonly number[]> = new Map([
  [RECORD.openSession, [16]],
  [RECORD.closeSession, [4, 16]],
  [RECORD.openFile, [60]],
  [RECORD.closeFile, [8, 16]],
  [RECORD.io, [44]],
  [RECORD.socketOptions, [12]],
  [RECORD.descriptorKey, [16]],
  [RECORD.allocatedBlocks, [48]],
  [RECORD.resourcePool, [4]],
])

export type RecordHeader = { readonly magic: number; readonly type: number; readonly length: number; readonly opId: number }

export const readHeader = (bytes: Buffer): RecordHeader => ({
  magic: bytes.readUInt32LE(0),
  type: bytes.readUInt32LE(4),
  length: bytes.readUInt32LE(8),
  opId: bytes.readUInt32LE(12),
})

/** A record with room for `tail` bytes behind the payload, which is zero; the tail is not. */
export const makeRecord = (type: number, opId: number, payload: number, tail = 0): Buffer =>
  startRecord(Buffer.allocUnsafe(HEADER_BYTES + payload + tail), type, opId, payload)

/** The same in memory that is there. */
export function startRecord(bytes: Buffer, type: number, opId: number, payload: number): Buffer {
  bytes.fill(0, 0, HEADER_BYTES + payload)
  bytes.writeUInt32LE(MAGIC, 0)
  bytes.writeUInt32LE(type, 4)
  bytes.writeUInt32LE(payload, 8)
  bytes.writeUInt32LE(opId, 12)
  return bytes
}

/** Type 1: the code and the text of a refusal. */
export function errorRecord(opId: number, code: number, text: string): Buffer {
  const tail = Buffer.from(text, 'latin1')
  const bytes = makeRecord(RECORD.error, opId, 16, tail.length)
  bytes.writeBigUInt64LE(BigInt(code), 16)
  bytes.writeUInt32LE(tail.length, 28)
  tail.copy(bytes, 32)
  return bytes
}

export type OpenFileReply = {
  readonly handle: bigint
  readonly flags: number
  /** Bytes. */
  readonly capacity: number
  readonly sectorSize: number
  readonly status?: number | undefined
}

const HEADS = 255
const SECTORS_PER_TRACK = 63

/** Type 4: status, handle, capacity, sector size and a geometry that rounds down. */
export function openFileReply(opId: number, reply: OpenFileReply): Buffer {
  const bytes = makeRecord(RECORD.openFile, opId, 60)
  const at = HEADER_BYTES
  bytes.writeBigUInt64LE(BigInt(reply.status ?? 0), at)
  bytes.writeBigUInt64LE(reply.handle, at + 8)
  bytes.writeUInt32LE(2, at + 16)
  bytes.writeUInt32LE(reply.flags, at + 20)
  bytes.writeBigUInt64LE(BigInt(reply.capacity), at + 28)
  bytes.writeUInt32LE(reply.sectorSize, at + 36)
  bytes.writeUInt32LE(Math.floor(reply.capacity / 512 / HEADS / SECTORS_PER_TRACK), at + 40)
  bytes.writeUInt32LE(HEADS, at + 44)
  bytes.writeUInt32LE(SECTORS_PER_TRACK, at + 48)
  return bytes
}

export type ChunkHead = {
  readonly status?: number | undefined
  readonly code: number
  /** Offset and length of the whole request, bytes. */
  readonly offset: number
  readonly total: number
  /** Of the chunk inside the request. */
  readonly position: number
  /** Decoded. */
  readonly length: number
  /** On the wire. */
  readonly wire: number
}

/** Fills the 44 bytes of a type 7 reply to a read, behind the header. */
export function writeChunkHead(bytes: Buffer, head: ChunkHead): void {
  const at = HEADER_BYTES
  bytes.writeBigUInt64LE(BigInt(head.status ?? 0), at)
  bytes.writeUInt32LE(1, at + 8)
  bytes.writeUInt32LE(head.code, at + 12)
  bytes.writeBigUInt64LE(BigInt(head.offset), at + 16)
  bytes.writeUInt32LE(head.total, at + 24)
  bytes.writeUInt32LE(head.position, at + 28)
  bytes.writeUInt32LE(head.length, at + 32)
  bytes.writeUInt32LE(head.wire, at + 36)
}

/** Type 7 after a write: offset and length of the whole write. */
export function writeReply(opId: number, offset: number, total: number, status = 0): Buffer {
  const bytes = makeRecord(RECORD.io, opId, 44)
  bytes.writeBigUInt64LE(BigInt(status), HEADER_BYTES)
  bytes.writeBigUInt64LE(BigInt(offset), HEADER_BYTES + 16)
  bytes.writeUInt32LE(total, HEADER_BYTES + 24)
  bytes.writeUInt32LE(total, HEADER_BYTES + 32)
  return bytes
}

/** Type 13: the number of chunks and their bitmap, least significant bit first, padded to four bytes. */
export function allocatedBlocksReply(opId: number, count: number, told: number, isAllocated: (index: number) => boolean): Buffer {
  const size = Math.ceil(Math.ceil(count / 8) / 4) * 4
  const bytes = makeRecord(RECORD.allocatedBlocks, opId, 48, size)
  const bits = bytes.subarray(HEADER_BYTES + 48).fill(0)
  for (let index = 0; index < count; index++) if (isAllocated(index)) bits[index >> 3] = (bits[index >> 3] ?? 0) | (1 << (index & 7))
  bytes.writeBigUInt64LE(BigInt(told), HEADER_BYTES + 32)
  return bytes
}

/** Type 11: the value, or nothing for a key that is not there. */
export function descriptorKeyReply(opId: number, value: string | undefined): Buffer {
  const tail = Buffer.from(value ?? '', 'utf8')
  const bytes = makeRecord(RECORD.descriptorKey, opId, 16, tail.length)
  bytes.writeUInt32LE(tail.length, HEADER_BYTES + 12)
  tail.copy(bytes, HEADER_BYTES + 16)
  return bytes
}
