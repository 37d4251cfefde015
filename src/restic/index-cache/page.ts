import { crc32 } from 'node:zlib'

/* Pages of a run: docs/formats/index-cache.md. */

export const PAGE_BYTES = 4096
export const PAGE_WORDS = PAGE_BYTES / 4
/** Bytes of content; the rest are the four words that tell whether a page is sound. */
export const BODY_BYTES = 4080
const [COUNT, NUMBER, NONCE, CRC] = [1020, 1021, 1022, 1023]
const CRC_AT = 4092

/** Ends a page whose content stands in it already. `words` and `bytes` are views of the same memory. */
export function sealPage(
  words: Uint32Array,
  bytes: Uint8Array,
  page: { readonly count: number; readonly number: number; readonly nonce: number },
): void {
  words[COUNT] = page.count
  words[NUMBER] = page.number
  words[NONCE] = page.nonce
  words[CRC] = crc32(bytes.subarray(0, CRC_AT))
}

/** Entries in a page; undefined when it is not that page of that run, whole. */
export function soundPage(words: Uint32Array, bytes: Uint8Array, number: number, nonce: number): number | undefined {
  if (words[NUMBER] !== number || words[NONCE] !== nonce || words[CRC] !== crc32(bytes.subarray(0, CRC_AT))) return undefined
  return words[COUNT]
}
