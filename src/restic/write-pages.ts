import { isZero, writeHere } from '../core/index.ts'

/** File systems allocate no smaller. Bytes. */
const PAGE = 4096

/** Writes a block to its place in a file that reads as zeros there, from a worker thread; pages of zeros are left out. Bytes written. Errors: Node's own. */
export function writePages(descriptor: number, block: Uint8Array, position: number): number {
  let written = 0
  for (let at = 0; at < block.length; ) {
    if (isZeroPage(block, at)) {
      at += PAGE
      continue
    }
    let end = at + PAGE
    while (end < block.length && !isZeroPage(block, end)) end += PAGE
    end = Math.min(end, block.length)
    written += end - at
    writeHere(descriptor, block.subarray(at, end), position + at)
    at = end
  }
  return written
}

const isZeroPage = (block: Uint8Array, at: number): boolean => block[at] === 0 && isZero(block.subarray(at, at + PAGE))
