/** A processor copies in bulk only when the target does not follow the source by less than this, both taken modulo the page of 4 KiB. */
const AHEAD = 64

/**
 * Memory for reading blocks of a file into, `bytes` long, not cleared. What a kernel copies out of its page cache begins on a page; memory of the C library
 * begins 16 bytes into one, and a copy whose target lies so little behind the source within the page takes almost twice as long (measured on AMD EPYC:
 * 12.5 instead of 21 GB/s, bench/README.md). Called once per block or buffer by whoever reads disks.
 */
export const readMemory = (bytes: number): Buffer => Buffer.allocUnsafeSlow(AHEAD + bytes).subarray(AHEAD)

/**
 * The same, shared with worker threads: what a thread opens or decompresses lands in it without a copy. Not for bytes that are set into another array (`set` moves shared
 * memory word by word; `copy` does not), nor for interfaces of Node that refuse shared memory.
 */
export const sharedMemory = (bytes: number): Buffer => Buffer.from(new SharedArrayBuffer(AHEAD + bytes), AHEAD)

const ZEROS_BYTES = 64 * 1024
let zeros: Buffer | undefined

/** Makes all of `into` zero. `fill` does shared memory element by element, 2 GB/s; a copy is four times as fast, and as fast as `fill` elsewhere. */
export function fillWithZeros(into: Uint8Array): void {
  zeros ??= Buffer.alloc(ZEROS_BYTES)
  for (let at = 0; at < into.length; at += ZEROS_BYTES) zeros.copy(into, at)
}
