import type { Abortable } from './abort.ts'
import type { Extent, Range } from './range.ts'

/**
 * A frozen disk, or one layer of it, to read from. Opening returns a ready source; disposal is the only close, done once, by the owner.
 * Implementations: the formats and chains of `disk/`, transports, readers of restore points. Wrappers keep this interface.
 */
export interface BlockSource extends AsyncDisposable {
  /** Bytes; fixed for the life of the source. */
  readonly size: number
  /**
   * Fills `into` with the bytes at `offset` or throws; never a short read, never padding. Called many times, also concurrently.
   * `absent` bytes of a single layer read as zeros. Errors: UNAVAILABLE (transport), INTEGRITY (format), USAGE (outside the disk).
   */
  read(offset: number, into: Uint8Array, options?: Abortable): Promise<void>
  /** Ordered, gapless extents covering exactly `range`. Streams; never holds a list that grows with the disk. */
  extents(range: Range, options?: Abortable): AsyncIterable<Extent>
  /**
   * Writes `range` to a place of an open file of this machine (`BlockSink.writeBy`) without the bytes passing through this thread; pages of zeros may be left out. How many bytes
   * were written; undefined when this range is to be read and written as any other, also when some of it was written already. Errors: those of `read`, and Node's own for the file.
   */
  writeTo?(range: Range, place: FilePlace, options?: Abortable): Promise<number | undefined>
}

/** The byte `at` of a file that is open in this process. */
export type FilePlace = { readonly descriptor: number; readonly at: number }

/** A disk to write to during a restore. Writes may come in any order and concurrently, never overlapping. */
export interface BlockSink extends AsyncDisposable {
  /** Bytes. */
  readonly size: number
  write(offset: number, data: Uint8Array, options?: Abortable): Promise<void>
  /**
   * Present where the sink is a file of this machine: `work` writes `range`, each byte of a file once, to the place it is given, from whatever thread. It tells how many bytes it
   * wrote, and so does this; it may leave out zeros. Undefined, and `work` not called, where `write` may have been before.
   */
  writeBy?(range: Range, work: (place: FilePlace) => Promise<number | undefined>, options?: Abortable): Promise<number | undefined>
  /** Makes `range` read as zeros, without storing zeros where the target can do so (thin stays thin). */
  zero(range: Range, options?: Abortable): Promise<void>
  /** Everything written is durable when this resolves. Called once, before disposal; disposal without it = aborted. */
  flush(options?: Abortable): Promise<void>
}

/** Whether a way of doing something is open, and if not, why; shown to the user as it stands. */
export type Verdict = { readonly ok: true; readonly note?: string | undefined } | { readonly ok: false; readonly reason: string }
