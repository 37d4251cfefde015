type Signature = { readonly arguments: readonly string[]; readonly return: string }
type Ffi = {
  dlopen<Name extends string>(path: null, symbols: Readonly<Record<Name, Signature>>): { functions: Readonly<Record<Name, NativeFunction>> }
  getRawPointer(buffer: ArrayBufferLike): bigint
}

/** Pointers and sizes are bigints, `i32` and `u32` numbers, both ways; nothing is returned by `void`. */
type NativeFunction = (...args: readonly (bigint | number)[]) => unknown

/** Functions inside the node binary and of the C library, called through `node:ffi`. */
export type NativeLibrary<Name extends string> = {
  /** Each to be kept in a constant and called by it: what is looked up by name for every call takes three times as long. */
  readonly functions: Readonly<Record<Name, NativeFunction>>
  /** Address of the first byte of a view; valid while its memory lives. */
  readonly pointer: (bytes: Uint8Array) => bigint
}

/**
 * Binds functions of the libraries that the node binary carries and exports (zstd, OpenSSL), and of the C library. `node:ffi` is experimental in Node, so
 * undefined wherever it, or one of the symbols, is not to be had; whoever uses this has another way, or does without.
 */
export function nativeLibrary<Name extends string>(symbols: Readonly<Record<Name, Signature>>): NativeLibrary<Name> | undefined {
  try {
    const ffi = loadFfi()
    if (ffi === undefined) return undefined
    const { functions } = ffi.dlopen(null, symbols)
    const pointers = new WeakMap<ArrayBufferLike, bigint>()
    return Object.freeze({
      functions,
      pointer(bytes: Uint8Array): bigint {
        let base = pointers.get(bytes.buffer)
        if (base === undefined) {
          base = ffi.getRawPointer(bytes.buffer)
          pointers.set(bytes.buffer, base)
        }
        return base + BigInt(bytes.byteOffset)
      },
    })
  } catch (error) {
    // No such symbol, or no leave to use ffi (permission model): both carry a code. Anything else is ours to report.
    if (error instanceof Error && 'code' in error) return undefined
    throw error
  }
}

/** `node:ffi` without its warning: nobody who runs the product can do anything about it. Every other warning passes. */
function loadFfi(): Ffi | undefined {
  // oxlint-disable-next-line typescript/unbound-method -- put back below, and called on process
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
