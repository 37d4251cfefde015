import { deflateSync, inflateSync } from 'node:zlib'
import { decodeFastLz, encodeFastLz, FASTLZ_MIN } from './fastlz.ts'
import { decodeSkipz, encodeSkipz } from './skipz.ts'

export const PLAIN = 0
export const ZLIB = 1
export const FASTLZ = 2
export const SKIPZ = 3

export type CodedChunk = { readonly code: number; readonly tail: Uint8Array }

const FULL_CHUNK = 65_536

/** A chunk as it goes over the wire: coded as asked for where that is smaller, plain otherwise. */
export function encodeChunk(data: Uint8Array, code: number): CodedChunk {
  const tail = coded(data, code)
  return tail !== undefined && tail.length < data.length ? { code, tail } : { code: PLAIN, tail: data }
}

function coded(data: Uint8Array, code: number): Uint8Array | undefined {
  switch (code) {
    case ZLIB:
      return deflateSync(data, { level: 1 })
    case FASTLZ:
      return data.length < FASTLZ_MIN ? undefined : encodeFastLz(data, data.length < FULL_CHUNK ? 1 : 2)
    case SKIPZ:
      return encodeSkipz(data)
    default:
      return undefined
  }
}

/** The chunk's bytes; undefined when the tail is not `length` bytes coded so. A host decodes strictly. */
export function decodeChunk(tail: Buffer, code: number, length: number): Buffer | undefined {
  switch (code) {
    case PLAIN:
      return tail.length === length ? tail : undefined
    case ZLIB:
      return inflated(tail, length)
    case FASTLZ:
      return decodeFastLz(tail, length)
    case SKIPZ:
      return decodeSkipz(tail, length)
    default:
      return undefined
  }
}

function inflated(tail: Buffer, length: number): Buffer | undefined {
  try {
    const data = inflateSync(tail, { maxOutputLength: length + 1 })
    return data.length === length ? data : undefined
  } catch (error) {
    // Bad checksums and streams that grow beyond the chunk come here; anything without a code is the lab's own mistake.
    if (error instanceof Error && 'code' in error) return undefined
    throw error
  }
}
