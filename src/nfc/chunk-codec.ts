import { deflateSync, inflateSync } from 'node:zlib'
import { AgentError } from '../core/index.ts'
import { decodeFastLz, encodeFastLz } from './fastlz.ts'
import { decodeSkipz, encodeSkipz } from './skipz.ts'

/** How chunks travel. */
export const COMPRESSION = Object.freeze({ none: 0, zlib: 1, fastlz: 2, skipz: 3 })
export type ChunkCompression = keyof typeof COMPRESSION

/** FastLZ needs so many bytes. */
const FASTLZ_LEAST = 16

/** A chunk as it is sent: coded as asked for where that is smaller, as it is otherwise. */
export function encodeChunk(chunk: Uint8Array, compression: ChunkCompression): { readonly code: number; readonly tail: Uint8Array } {
  const tail = coded(chunk, compression)
  return tail !== undefined && tail.length < chunk.length
    ? { code: COMPRESSION[compression], tail }
    : { code: COMPRESSION.none, tail: chunk }
}

function coded(chunk: Uint8Array, compression: ChunkCompression): Uint8Array | undefined {
  switch (compression) {
    case 'none':
      return undefined
    case 'zlib':
      return deflateSync(chunk, { level: 1 })
    case 'fastlz':
      return chunk.length < FASTLZ_LEAST ? undefined : encodeFastLz(chunk)
    case 'skipz':
      return encodeSkipz(chunk)
  }
}

/**
 * Decodes one chunk's tail into exactly `into`. Hosts that repeat the asked code on a stored chunk are understood (docs/formats/nfc.md).
 * INTEGRITY for an unknown code or a tail that does not decode to this length.
 */
export function decodeChunk(code: number, tail: Buffer, into: Uint8Array): void {
  const stored = tail.length === into.length
  if (code === COMPRESSION.none) {
    if (!stored) throw new AgentError('INTEGRITY', `A chunk of ${into.length} bytes came with ${tail.length}.`)
    into.set(tail)
    return
  }
  if (code === COMPRESSION.skipz && stored && tail.readUInt32LE(0) !== into.length) {
    into.set(tail)
    return
  }
  try {
    decodeStrictly(code, tail, into)
  } catch (error) {
    if (!stored || code > COMPRESSION.skipz) throw error
    into.set(tail)
  }
}

function decodeStrictly(code: number, tail: Buffer, into: Uint8Array): void {
  switch (code) {
    case COMPRESSION.zlib:
      into.set(inflated(tail, into.length))
      return
    case COMPRESSION.fastlz:
      decodeFastLz(tail, into)
      return
    case COMPRESSION.skipz:
      decodeSkipz(tail, into)
      return
    default:
      throw new AgentError('INTEGRITY', `A chunk came with the unknown compression ${code}.`)
  }
}

function inflated(tail: Buffer, length: number): Buffer {
  let bytes: Buffer
  try {
    bytes = inflateSync(tail, { maxOutputLength: length + 1 })
  } catch (error) {
    throw new AgentError('INTEGRITY', 'A zlib chunk of the host cannot be decoded.', { cause: error })
  }
  if (bytes.length !== length) throw new AgentError('INTEGRITY', `A zlib chunk decodes to ${bytes.length} bytes instead of ${length}.`)
  return bytes
}
