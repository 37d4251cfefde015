import type { ZstdCodec } from './zstd-codec.ts'

// From zstd.h, stable since 1.4.
const ZSTD_C_COMPRESSION_LEVEL = 100
const ZSTD_C_CHECKSUM_FLAG = 201

type Ffi = {
  dlopen(
    path: null,
    symbols: Record<string, { arguments: string[]; return: string }>,
  ): { functions: Record<string, (...args: unknown[]) => unknown> }
  getRawPointer(buffer: ArrayBufferLike): bigint
}

/**
 * The node binary's own zstd through `node:ffi`, with one kept context: a quarter faster than node:zlib at compressing, half again at
 * decompressing, and without a garbage buffer a block. Experimental in Node, so undefined wherever it is not to be had, and the same
 * tests run both codecs.
 */
export function ffiCodec(level: number): ZstdCodec | undefined {
  const ffi = loadFfi()
  if (ffi === undefined) return undefined
  try {
    return bind(ffi, level)
  } catch (error) {
    // A Node without exported zstd symbols or without leave to use ffi; anything else is ours to report.
    if (error instanceof Error && 'code' in error) return undefined
    throw error
  }
}

function bind(ffi: Ffi, level: number): ZstdCodec {
  const { functions } = ffi.dlopen(null, {
    ZSTD_createCCtx: { arguments: [], return: 'pointer' },
    ZSTD_createDCtx: { arguments: [], return: 'pointer' },
    ZSTD_CCtx_setParameter: { arguments: ['pointer', 'i32', 'i32'], return: 'u64' },
    ZSTD_compress2: { arguments: ['pointer', 'pointer', 'u64', 'pointer', 'u64'], return: 'u64' },
    ZSTD_decompressDCtx: { arguments: ['pointer', 'pointer', 'u64', 'pointer', 'u64'], return: 'u64' },
  })
  const call = (name: string, ...args: unknown[]): bigint => {
    const bound = functions[name]
    if (bound === undefined) throw new TypeError(`${name} is not bound`)
    return BigInt(bound(...args) as bigint | number)
  }
  const compressor = call('ZSTD_createCCtx')
  let decompressor: bigint | undefined
  call('ZSTD_CCtx_setParameter', compressor, ZSTD_C_COMPRESSION_LEVEL, level)
  call('ZSTD_CCtx_setParameter', compressor, ZSTD_C_CHECKSUM_FLAG, 1)
  const pointers = new WeakMap<ArrayBufferLike, bigint>()
  const pointer = (bytes: Uint8Array): bigint => {
    let base = pointers.get(bytes.buffer)
    if (base === undefined) {
      base = ffi.getRawPointer(bytes.buffer)
      pointers.set(bytes.buffer, base)
    }
    return base + BigInt(bytes.byteOffset)
  }
  return Object.freeze({
    name: 'ffi' as const,
    compress(source: Uint8Array, target: Uint8Array): number | undefined {
      if (source.length === 0) return undefined
      const length = call('ZSTD_compress2', compressor, pointer(target), BigInt(target.length), pointer(source), BigInt(source.length))
      // Error codes are the highest numbers a size_t holds, so they too are "not smaller".
      return length < BigInt(source.length) ? Number(length) : undefined
    },
    decompress(source: Uint8Array, length: number): Buffer | undefined {
      if (source.length === 0 || length === 0) return undefined
      decompressor ??= call('ZSTD_createDCtx')
      const out = Buffer.allocUnsafeSlow(length)
      const made = call('ZSTD_decompressDCtx', decompressor, pointer(out), BigInt(length), pointer(source), BigInt(source.length))
      return made === BigInt(length) ? out : undefined
    },
  })
}

/** `node:ffi` without its warning: nobody who runs the product can do anything about it. Every other warning passes. */
function loadFfi(): Ffi | undefined {
  const emit = process.emitWarning
  process.emitWarning = (warning: string | Error, ...rest: unknown[]): void => {
    if (String(warning).includes('FFI')) return
    Reflect.apply(emit, process, [warning, ...rest])
  }
  try {
    return process.getBuiltinModule('node:ffi') as unknown as Ffi | undefined
  } finally {
    process.emitWarning = emit
  }
}
