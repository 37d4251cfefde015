import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { AgentError, KIB, MIB } from '../core/index.ts'
import { hashLogOf } from './compression.ts'
import { ffiCodec } from './ffi-codec.ts'

/** zstd of whole blocks, without the frame's own checksum, as restic writes them: MAC and SHA-256 say more. One object belongs to one thread; calls are synchronous. */
export interface ZstdCodec {
  readonly name: 'ffi' | 'zlib'
  /** Compresses `source` to the beginning of `target` (room for `source.length` bytes and more). Returns the length, or undefined when it would not be smaller. */
  compress(source: Uint8Array, target: Uint8Array): number | undefined
  /** Decompresses to exactly `length` bytes; undefined when the frame is damaged or holds another length. */
  decompress(source: Uint8Array, length: number): Buffer | undefined
  /** Decompresses to exactly fill `target`; false when the frame is damaged or holds another length. */
  decompressInto(source: Uint8Array, target: Uint8Array): boolean
}

function wholeOf(source: Uint8Array, length: number): Buffer | undefined {
  const out = decompressInPieces(source, length, length + 64)
  return out?.length === length ? out : undefined
}

/** The stable way: node:zlib, a fresh context each call. */
export function zlibCodec(level: number): ZstdCodec {
  const hashLog = hashLogOf(level)
  const params = { [constants.ZSTD_c_compressionLevel]: level, ...(hashLog === undefined ? {} : { [constants.ZSTD_c_hashLog]: hashLog }) }
  return Object.freeze({
    name: 'zlib' as const,
    compress(source: Uint8Array, target: Uint8Array): number | undefined {
      const out = zstdCompressSync(source, { params })
      if (out.length >= source.length) return undefined
      target.set(out)
      return out.length
    },
    decompress: wholeOf,
    decompressInto(source: Uint8Array, target: Uint8Array): boolean {
      const out = wholeOf(source, target.length)
      if (out !== undefined) target.set(out)
      return out !== undefined
    },
  })
}

/** The fastest codec this Node offers, or node:zlib when asked for. */
export function zstdCodec(level: number, choice: 'auto' | 'zlib'): ZstdCodec {
  return (choice === 'auto' ? ffiCodec(level) : undefined) ?? zlibCodec(level)
}

/** A piece of output grows from this with the input, so that a small file does not cost a piece of the largest size. */
const LEAST_PIECE = 64 * KIB
const LARGEST_PIECE = 16 * MIB
/** What JSON of hex ids and names comes to, about. */
const USUAL_RATIO = 4

/** Decompresses when the result is at most `limit` bytes; undefined for damage or more. */
export function decompressUpTo(source: Uint8Array, limit: number): Buffer | undefined {
  return decompressInPieces(source, limit, Math.min(limit + 64, Math.max(LEAST_PIECE, source.length * USUAL_RATIO)))
}

function decompressInPieces(source: Uint8Array, limit: number, piece: number): Buffer | undefined {
  try {
    return zstdDecompressSync(source, {
      maxOutputLength: Math.max(1, limit),
      chunkSize: Math.min(Math.max(64, piece), LARGEST_PIECE),
    })
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'string' && /^(ZSTD|ERR_BUFFER|ERR_ZSTD|Z_)/u.test(error.code))
      return undefined
    throw new AgentError('INTERNAL', 'Decompressing failed.', { cause: error })
  }
}
