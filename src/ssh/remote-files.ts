import type { Abortable, Extent, Range } from '../core/index.ts'

/** A file of a host, open. Reads and writes may run beside each other; an offset and a length are bytes. */
export interface RemoteFile {
  /** Absolute path on the host. */
  readonly path: string
  readonly size: number
  /** Fills `into` or throws; never short, never padded. UNAVAILABLE, INTEGRITY (the file ends before), NOT_FOUND, CONFLICT (locked). */
  read(offset: number, into: Uint8Array, options?: Abortable): Promise<void>
  /** Where the file's system says it holds data and where holes, gapless over `range`; undefined where it does not say. */
  holes?(range: Range, options?: Abortable): AsyncIterable<Extent>
}

/** The same to be written to, within its size. */
export interface WritableRemoteFile extends RemoteFile {
  write(offset: number, data: Uint8Array, options?: Abortable): Promise<void>
  /** What was written is durable. */
  sync(options?: Abortable): Promise<void>
}

/** Bytes of a file of the host, or as many zeros. */
export type RemotePiece = Range & { readonly path: string | undefined }

/** Files of a host, read by programs that every host has. Disposal ends them all. */
export interface RemoteFiles extends AsyncDisposable {
  /** The program that reads, and why it is not a better one. For the point and for doctor. */
  readonly how: { readonly program: 'python3' | 'dd'; readonly reason: string }
  /** NOT_FOUND, CONFLICT (locked by the host), AUTH, UNAVAILABLE. */
  open(path: string, options?: Abortable): Promise<RemoteFile>
  /** SHA-256 of pieces of files, back to back, computed on the host. Absent where it has no program for it. INTEGRITY, UNAVAILABLE. */
  digest?(pieces: readonly RemotePiece[], options?: Abortable): Promise<Uint8Array>
  /** Absent where the host has no program for it. */
  openToWrite?(path: string, options?: Abortable): Promise<WritableRemoteFile>
}
