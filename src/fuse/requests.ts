import { AgentError } from '../core/index.ts'
import { IN_HEADER, LARGEST_REQUEST } from './protocol.ts'

/** A request of the kernel. `body` is what follows its head. */
export type FuseRequest = { readonly opcode: number; readonly unique: bigint; readonly node: number; readonly body: Buffer }

/** Cuts what was read from the device, and came over a pipe, into requests again. INTEGRITY when it is none. */
export async function* requests(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<FuseRequest> {
  let waiting = Buffer.alloc(0)
  for await (const piece of pieces) {
    waiting = waiting.length === 0 ? Buffer.from(piece) : Buffer.concat([waiting, piece])
    let at = 0
    while (waiting.length - at >= IN_HEADER) {
      const length = waiting.readUInt32LE(at)
      if (length < IN_HEADER || length > LARGEST_REQUEST) {
        throw new AgentError('INTEGRITY', `The FUSE device sent a request of ${length} bytes.`, { next: 'Report this as a defect of vcb.' })
      }
      if (waiting.length - at < length) break
      yield {
        opcode: waiting.readUInt32LE(at + 4),
        unique: waiting.readBigUInt64LE(at + 8),
        node: Number(waiting.readBigUInt64LE(at + 16)),
        body: waiting.subarray(at + IN_HEADER, at + length),
      }
      at += length
    }
    waiting = waiting.subarray(at)
  }
}
