import type { Abortable, RunId } from '../core/index.ts'
import type { OpenedStream } from './stream-pool.ts'

/** A tape file on its way: what lies between two file marks. Exactly one of `mark` and `abort` ends it. */
export interface TapeFile {
  /** From 0; final when it is marked. */
  readonly number: number
  /** One block of the tape's block size. CAPACITY at the end of the medium, UNAVAILABLE. */
  write(block: Uint8Array): Promise<void>
  /** Durable, with a file mark behind it. */
  mark(): Promise<void>
  /** Without a file mark: the next file is written in its place. Idempotent, also after a `mark` that failed. */
  abort(): Promise<void>
}

/** A tape, or what stands in for one: files one behind the other, each written once from its beginning to its end and read so. */
export interface TapeDevice {
  /** Complete files on it; they are numbered from 0. UNAVAILABLE, NOT_FOUND. */
  files(options?: Abortable): Promise<number>
  /** Begins the file behind the last. CONFLICT while another run writes. */
  append(run: RunId): Promise<TapeFile>
  /** A file from its first byte on, padding of its last block included. NOT_FOUND. */
  read(file: number, options?: Abortable): Promise<OpenedStream>
}
