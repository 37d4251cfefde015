import { SECTOR } from '../../core/index.ts'
import { writeReply } from './aio-record.ts'
import { decodeChunk } from './chunk-code.ts'
import { badRequest, ioFailed, NfcRefusal } from './nfc-refusal.ts'
import type { OpenFile } from './open-file.ts'

export type WriteContext = {
  /** Undefined when the handle is not known. */
  readonly file: OpenFile | undefined
  readonly buffer: number
  readonly fault: NfcRefusal | undefined
  readonly status: number
}

type Pending = { readonly offset: number; readonly total: number; done: number; refusal: NfcRefusal | undefined; status: number }

/**
 * Writes that come in several records with the same opId, positions ascending: each chunk is applied as it comes, the one answer follows the last.
 * A chunk that is refused is told about in that answer; the rest of its write is read and dropped.
 */
export class WriteIo {
  readonly #pending = new Map<number, Pending>()

  /** Takes one record. The answer after the last chunk, undefined before. */
  take(opId: number, payload: Buffer, tail: Buffer, context: WriteContext): Buffer | NfcRefusal | undefined {
    const total = payload.readUInt32LE(24)
    const position = payload.readUInt32LE(28)
    const length = payload.readUInt32LE(32)
    const write = this.#pending.get(opId) ?? {
      offset: Number(payload.readBigUInt64LE(16)),
      total,
      done: 0,
      refusal: undefined,
      status: 0,
    }
    this.#pending.set(opId, write)
    if (context.status !== 0) write.status = context.status
    if (write.refusal === undefined) write.refusal = apply()
    write.done = Math.max(write.done, position + length)
    if (write.done < write.total && length > 0) return undefined
    this.#pending.delete(opId)
    return write.refusal ?? writeReply(opId, write.offset, write.total, write.status)

    function apply(): NfcRefusal | undefined {
      const { file } = context
      if (file === undefined) return badRequest('NfcAioFindFile: the handle is not known')
      if (context.fault !== undefined) return context.fault
      if (write.status !== 0) return undefined
      const inOrder = position === write.done && total === write.total && Number(payload.readBigUInt64LE(16)) === write.offset
      const fits = length > 0 && length <= context.buffer && position + length <= total && write.offset + total <= file.size
      if (!inOrder || !fits || write.offset % SECTOR !== 0 || total % SECTOR !== 0 || length % SECTOR !== 0)
        return badRequest('NfcAioProcessIOMsg: the chunk does not fit into its write')
      const data = decodeChunk(tail, payload.readUInt32LE(12), length)
      if (data === undefined) return ioFailed('NfcAioProcessIOMsg: the chunk cannot be decompressed')
      try {
        file.write(write.offset + position, data)
      } catch (error) {
        if (error instanceof NfcRefusal) return error
        throw error
      }
      return undefined
    }
  }
}
