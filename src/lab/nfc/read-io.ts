import { SECTOR } from '../../core/index.ts'
import { HEADER_BYTES, MAGIC, makeRecord, RECORD, type RecordHeader, startRecord, writeChunkHead } from './aio-record.ts'
import { encodeChunk, FASTLZ, PLAIN, SKIPZ, ZLIB } from './chunk-code.ts'
import { ConnectionOver } from './inbox.ts'
import { badRequest } from './nfc-refusal.ts'
import type { OpenFile } from './open-file.ts'
import type { Outlet } from './outlet.ts'
import type { RecordMemory } from './record-memory.ts'
import type { StepFaults } from './step-faults.ts'

export type ReadRequest = {
  readonly opId: number
  readonly offset: number
  readonly length: number
  /** Asked compression. */
  readonly code: number
}

export type PendingRead = { readonly request: ReadRequest; readonly file: OpenFile; readonly faults: StepFaults }

const PAYLOAD = 44
/** Chunk lengths of `oddChunks`, in turn. */
const ODD = [1000, 65_536, 7, 3000, 512, 33_333]

/** Checks the 44 bytes of a read. NfcRefusal. */
export function readRequest(header: RecordHeader, payload: Buffer, size: number): ReadRequest {
  const code = payload.readUInt32LE(12)
  const offset = payload.readBigUInt64LE(16)
  const length = payload.readBigUInt64LE(24)
  const same = [32, 36].every((at) => BigInt(payload.readUInt32LE(at)) === length)
  if (!same || code > SKIPZ) throw badRequest('NfcAioProcessIOMsg: the request contradicts itself')
  const whole = offset % BigInt(SECTOR) === 0n && length % BigInt(SECTOR) === 0n && length > 0n
  if (!whole || offset + length > BigInt(size)) throw badRequest('DiskLib error: the area is not made of whole sectors of the disk')
  return { opId: header.opId, offset: Number(offset), length: Number(length), code }
}

/** Sends the chunks of one read, with what the fault rules want of them. NfcRefusal only before the first. */
export async function sendRead(
  outlet: Outlet,
  memory: RecordMemory,
  { request, file, faults }: PendingRead,
  buffer: number,
): Promise<void> {
  const { opId, offset, length, code } = request
  if (faults.cutAfterBytes !== undefined) outlet.cutAfter(faults.cutAfterBytes)
  const status = faults.quirk('status')
  if (status !== undefined) {
    const reply = makeRecord(RECORD.io, opId, PAYLOAD)
    writeChunkHead(reply, { status: status.value ?? 13, code: 0, offset, total: length, position: 0, length: 0, wire: 0 })
    return outlet.send(reply)
  }
  const pieces = piecesOf(length, buffer, faults.quirk('oddChunks') !== undefined)
  const order =
    faults.quirk('oddFirst') === undefined
      ? pieces
      : [...pieces.filter((_piece, index) => index % 2 === 1), ...pieces.filter((_piece, index) => index % 2 === 0)]
  for (const [index, piece] of order.entries()) {
    const { bytes, giveBack } = memory.take(HEADER_BYTES + PAYLOAD + piece.length)
    const record = chunkRecord(bytes, piece)
    await outlet.send(spoiled(record, faults, index), giveBack)
    if (faults.quirk('cutChunk') !== undefined) {
      await outlet.drained()
      throw new ConnectionOver('a fault rule of the lab cut the connection')
    }
  }
  if (faults.cutAfter) {
    await outlet.drained()
    throw new ConnectionOver('a fault rule of the lab cut the connection')
  }

  /** In `bytes`, or in memory of its own when coded. */
  function chunkRecord(bytes: Buffer, piece: Piece): Buffer {
    const data = bytes.subarray(HEADER_BYTES + PAYLOAD)
    file.read(offset + piece.position, data)
    const head = { offset, total: length, position: piece.position, length: piece.length }
    const plain = faults.quirk('stored') !== undefined ? { code, tail: data } : encodeChunk(data, code)
    if (plain.tail === data) {
      const record = startRecord(bytes, RECORD.io, opId, PAYLOAD)
      writeChunkHead(record, { ...head, code: plain.code, wire: data.length })
      return record
    }
    const coded = makeRecord(RECORD.io, opId, PAYLOAD, plain.tail.length)
    coded.set(plain.tail, HEADER_BYTES + PAYLOAD)
    writeChunkHead(coded, { ...head, code: plain.code, wire: plain.tail.length })
    return coded
  }
}

type Piece = { readonly position: number; readonly length: number }

function piecesOf(length: number, buffer: number, odd: boolean): Piece[] {
  const pieces: Piece[] = []
  for (let position = 0; position < length; ) {
    const wish = odd ? (ODD[pieces.length % ODD.length] ?? buffer) : buffer
    const size = Math.min(wish, buffer, length - position)
    pieces.push({ position, length: size })
    position += size
  }
  return pieces
}

const AT_CODE = HEADER_BYTES + 12
const AT_TOTAL = HEADER_BYTES + 24
const AT_POSITION = HEADER_BYTES + 28
const AT_LENGTH = HEADER_BYTES + 32
const AT_WIRE = HEADER_BYTES + 36
const AT_TAIL = HEADER_BYTES + PAYLOAD

/** Damages a chunk as the rules say. `index` is its place among those sent. */
function spoiled(record: Buffer, faults: StepFaults, index: number): Buffer {
  if (faults.quirk('badMagic') !== undefined) record.writeUInt32LE((MAGIC ^ 1) >>> 0, 0)
  if (faults.quirk('badOpId') !== undefined) record.writeUInt32LE((record.readUInt32LE(12) + 100_000) >>> 0, 12)
  if (faults.quirk('pastEnd') !== undefined) record.writeUInt32LE(record.readUInt32LE(AT_TOTAL), AT_POSITION)
  if (faults.quirk('overlap') !== undefined && index > 0) record.writeUInt32LE(0, AT_POSITION)
  if (faults.quirk('wireLength') !== undefined) {
    record.writeUInt32LE(record.readUInt32LE(AT_WIRE) + 1, AT_WIRE)
    return Buffer.concat([record, Buffer.from([0])])
  }
  if (faults.quirk('shortRecord') !== undefined) {
    const short = record.subarray(0, record.length - 1)
    short.writeUInt32LE(record.readUInt32LE(AT_WIRE) - 1, AT_WIRE)
    return short
  }
  if (faults.quirk('badData') !== undefined) return badData(record)
  if (faults.quirk('runPastEnd') !== undefined) return runPastEnd(record)
  return record
}

/** The coded form does not decode: a zlib checksum, a FastLZ distance, a skipz length; plain data becomes coded data that is none. */
function badData(record: Buffer): Buffer {
  const code = record.readUInt32LE(AT_CODE)
  const last = record.length - 1
  switch (code) {
    case ZLIB:
      record[last] = (record[last] ?? 0) ^ 0xff
      return record
    case FASTLZ:
      // A match that reaches before the first byte.
      return withTail(record, Buffer.from([record[AT_TAIL] ?? 0, 0, 0xff, 0xff, 0xff]))
    case SKIPZ:
      record.writeUInt32LE(record.readUInt32LE(AT_LENGTH) + 512, AT_TAIL)
      return record
    case PLAIN:
    default:
      record.writeUInt32LE(ZLIB, AT_CODE)
      return withTail(record, Buffer.from([0x78, 0x01, 0xff, 0xff, 0xff]))
  }
}

/** A skipz chunk with a run that begins at its last byte and is two bytes long. */
function runPastEnd(record: Buffer): Buffer {
  const length = record.readUInt32LE(AT_LENGTH)
  const tail = Buffer.alloc(18)
  tail.writeUInt32LE(length, 0)
  tail.writeUInt32LE(length - 1, 8)
  tail.writeUInt32LE(2, 12)
  record.writeUInt32LE(SKIPZ, AT_CODE)
  return withTail(record, tail)
}

function withTail(record: Buffer, tail: Buffer): Buffer {
  const made = Buffer.concat([record.subarray(0, AT_TAIL), tail])
  made.writeUInt32LE(tail.length, AT_WIRE)
  return made
}
