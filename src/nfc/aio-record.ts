import { AgentError } from '../core/index.ts'

/** First word of every record, `7a da 00 a1` on the wire. */
const MAGIC = 0xa100da7a
export const HEADER_BYTES = 16

/** Record types; docs/formats/nfc.md. */
export const AIO = Object.freeze({
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

export type RecordHeader = { readonly type: number; readonly length: number; readonly opId: number }

/** Header, payload and tail of a request in one piece. */
export function encodeRecord(type: number, opId: number, payload: Uint8Array, tail?: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(MAGIC, 0)
  header.writeUInt32LE(type, 4)
  header.writeUInt32LE(payload.length, 8)
  header.writeUInt32LE(opId, 12)
  return Buffer.concat(tail === undefined ? [header, payload] : [header, payload, tail])
}

/** INTEGRITY when it is no record: the stream is out of step and cannot be used any more. */
export function decodeHeader(header: Buffer, host: string): RecordHeader {
  if (header.readUInt32LE(0) !== MAGIC)
    throw new AgentError('INTEGRITY', `${host} sent something that is no NFC record.`, { subject: host })
  return { type: header.readUInt32LE(4), length: header.readUInt32LE(8), opId: header.readUInt32LE(12) }
}
