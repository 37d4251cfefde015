import type { Abortable, Extent, Range } from '../core/index.ts'

/**
 * The bytes of one file: a VMDK descriptor, an extent, a redo log. Formats are parsed over this seam, so that they can be read from a
 * local file and over datastore HTTP ranges alike. Opening returns a ready source; disposal is the only close.
 */
export interface ByteSource extends AsyncDisposable {
  /** What messages call it: a path or `[datastore] dir/file.vmdk`. */
  readonly name: string
  /** Bytes; fixed for the life of the source. */
  readonly size: number
  /**
   * Fills `into` with the bytes at `offset` or throws; never short, never padded. Called often, also concurrently.
   * Errors: INTEGRITY (the file ends before), UNAVAILABLE (input/output or network).
   */
  read(offset: number, into: Uint8Array, options?: Abortable): Promise<void>
  /** Where the file holds data and where holes (`data` and `zero` only), gapless over `range`. Absent when holes cannot be told. */
  dataExtents?(range: Range, options?: Abortable): AsyncIterable<Extent>
}

/** Runs `open` with `bytes`, which belong to the result afterwards; when it fails, `bytes` are closed before the error goes on. */
export async function handOver<T>(bytes: AsyncDisposable, open: () => Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    await bytes[Symbol.asyncDispose]()
    throw error
  }
}
