import type { SealKey } from './sealing.ts'

/** Kinds of task: SHA-256 of a slot's block; compress and seal it; SHA-256 of a pack buffer. */
export const HASH = 0
export const SEAL = 1
export const DIGEST = 2

/** [task number, kind, slot or pack buffer, bytes] */
export type TaskMessage = readonly [number, number, number, number]
/** [task number, true: the result lies in the slot | the digest of a pack] */
export type ReplyMessage = readonly [number, true | Uint8Array]

export type SealWorkerData = {
  readonly slots: readonly SharedArrayBuffer[]
  readonly packs: readonly SharedArrayBuffer[]
  readonly blockSize: number
  readonly key: SealKey
  readonly level: number
  readonly codec: 'auto' | 'zlib'
}

/** Results of a task, at the head of the slot: id, sealed length, uncompressed length (0: stored as it is). The block begins after them, clear of the page
 * (see `readMemory`). */
const META_BYTES = 64
export const ID_AT = 0
export const LENGTH_AT = 32
export const PLAIN_LENGTH_AT = 36

/** Room for the sealed form of a block: what zstd may need at worst, IV and MAC. */
const sealedRoom = (blockSize: number): number => blockSize + Math.ceil(blockSize / 128) + 1024

/** Bytes of a slot's shared memory. */
export const slotBytes = (blockSize: number): number => blockSize + sealedRoom(blockSize) + META_BYTES

export type SlotLayout = { readonly meta: Buffer; readonly plain: Buffer; readonly sealed: Buffer }

export function slotLayout(memory: SharedArrayBuffer, blockSize: number): SlotLayout {
  const room = sealedRoom(blockSize)
  return {
    meta: Buffer.from(memory, 0, META_BYTES),
    plain: Buffer.from(memory, META_BYTES, blockSize),
    sealed: Buffer.from(memory, META_BYTES + blockSize, room),
  }
}
