/*
 * An SE-sparse table entry as two 32-bit words: type in bits 60-63; the 60-bit index rotated, its low 12 bits in bits 48-59 and the rest
 * in bits 0-47. Words instead of one BigInt: a table has 4096 of them.
 */
export const SE_FREE = 0
/** Also the tag of a back map entry. */
export const SE_UNMAPPED = 1
export const SE_ZERO = 2
export const SE_SET = 3

export const seType = (high: number): number => high >>> 28

export const seGrain = (low: number, high: number): number => ((high >>> 16) & 0xfff) + ((high & 0xffff) * 2 ** 32 + low) * 4096

/** Stores entry `slot` of a table. */
export function seEntry(table: Uint32Array, slot: number, type: number, index: number): void {
  const rest = Math.floor(index / 4096)
  table[slot * 2] = rest % 2 ** 32
  table[slot * 2 + 1] = ((type << 28) | ((index % 4096) << 16) | Math.floor(rest / 2 ** 32)) >>> 0
}
