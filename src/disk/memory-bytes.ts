import type { Extent, Range } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import { checkInside } from './inside.ts'

/** A file that is in memory already: a descriptor fetched whole, a test's image. Not copied; the caller does not change it. */
export function memoryBytes(bytes: Uint8Array, name = 'a file in memory', extents?: readonly Extent[]): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.length,
    async read(offset, into) {
      checkInside(offset, into.length, bytes.length, name)
      into.set(bytes.subarray(offset, offset + into.length))
    },
    async [Symbol.asyncDispose]() {},
  }
  if (extents === undefined) return Object.freeze(source)
  return Object.freeze({
    ...source,
    async *dataExtents(range: Range) {
      const end = range.offset + range.length
      for (const extent of extents) {
        const from = Math.max(extent.offset, range.offset)
        const to = Math.min(extent.offset + extent.length, end)
        if (to > from) yield { offset: from, length: to - from, kind: extent.kind }
      }
    },
  })
}
