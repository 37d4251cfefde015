import type { Abortable } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'

/**
 * Turns what descriptors say about other files into open files. One object serves one disk chain; `localDiskFiles` reads directories,
 * transports bring their own for datastore HTTP.
 */
export interface DiskFiles {
  /**
   * The location meant by `reference` as written in the descriptor at location `from` (undefined: as given by the user). Locations are
   * compared to find cycles, so one file has one location. Errors: CONFIG when the reference leaves the directory and is not mapped.
   */
  resolve(reference: string, from: string | undefined): Promise<string>
  /** Opens the file at a location `resolve` gave. The caller disposes it. Errors: NOT_FOUND, CONFIG, UNAVAILABLE. */
  open(location: string, options?: Abortable): Promise<ByteSource>
}
