/** A processor copies in bulk only when the target does not follow the source by less than this, both taken modulo the page of 4 KiB. */
const AHEAD = 64

/**
 * Memory for reading blocks of a file into, `bytes` long, not cleared. What a kernel copies out of its page cache begins on a page; memory of the C library
 * begins 16 bytes into one, and a copy whose target lies so little behind the source within the page takes almost twice as long (measured on AMD EPYC:
 * 12.5 instead of 21 GB/s, bench/README.md). Called once per block or buffer by whoever reads disks.
 */
export const readMemory = (bytes: number): Buffer => Buffer.allocUnsafeSlow(AHEAD + bytes).subarray(AHEAD)
