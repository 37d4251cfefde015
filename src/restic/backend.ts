import type { Abortable, RunId } from '../core/index.ts'

/** What a repository is made of. `data` = packs. */
export type FileKind = 'config' | 'data' | 'index' | 'key' | 'lock' | 'snapshot'

/** One file of a repository. `name` is the hex id (for the one `config`: the word config); a backend refuses anything else with USAGE. */
export type FileRef = { readonly kind: FileKind; readonly name: string }

/** The one configuration file. */
export const CONFIG_FILE: FileRef = Object.freeze({ kind: 'config', name: 'config' })

export type LoadOptions = Abortable & {
  readonly range?: { readonly offset: number; readonly length: number } | undefined
  /** Memory to load into when it is large enough: the answer lies at its beginning then. For callers that read many blobs. */
  readonly into?: Buffer | undefined
}

export type SaveOptions = Abortable & {
  /** Once aborted, a try that failed is not followed by another; one under way goes on. For a writer that is giving up. */
  readonly lastTry?: AbortSignal | undefined
}

/**
 * Where a repository's files lie: a directory, an object store, a server. Knows nothing of what is in them.
 * Every implementation passes `test/contract/restic-backend.ts`. Calls may run concurrently.
 */
export interface Backend extends AsyncDisposable {
  /** For messages and listings; without secrets. */
  readonly url: string
  /** How many packs are worth being saved at once: several where each waits for a far server. 1 where absent. */
  readonly savesAtOnce?: number | undefined
  /**
   * The whole file, or exactly `range` of it. NOT_FOUND when there is no such file; INTEGRITY when the file is shorter than the range
   * asks for; UNAVAILABLE; CANCELED.
   */
  load(file: FileRef, options?: LoadOptions): Promise<Buffer>
  /**
   * Writes a file whole and durably: after it resolves a crash loses nothing, and at no moment does a part show under the name.
   * An existing file of the same name is replaced (names are digests, so the content is the same). CAPACITY, UNAVAILABLE, CONFIG.
   */
  save(file: FileRef, data: Uint8Array, options?: SaveOptions): Promise<void>
  /** All files of a kind with their sizes in bytes, in no order; foreign names are left out; a missing directory is empty. */
  list(kind: FileKind, options?: Abortable): AsyncIterable<{ readonly name: string; readonly size: number }>
  /**
   * Whether `list`, here and in every other process that works on these files, tells of each file whose `save` had ended before it began, and of none whose `remove` had. Absent or
   * false where that may take a moment: a server, a network file system.
   */
  listsAtOnce?(): Promise<boolean>
  /** Size in bytes; undefined when there is no such file. */
  stat(file: FileRef, options?: Abortable): Promise<{ readonly size: number } | undefined>
  /**
   * Removes a file, durably, and of a lock also what a save that was cut short left; a missing one is success. CONFLICT for one that its
   * server keeps until a moment that has not come.
   */
  remove(file: FileRef, options?: Abortable): Promise<void>
  /** Until when its server keeps a file; undefined = it may be removed. Absent where servers keep nothing. */
  lockedUntil?(file: FileRef, options?: Abortable): Promise<Date | undefined>
  /** Where the server is told to keep what is saved; absent elsewhere. */
  readonly locks?: FileLocks | undefined
}

/** How a server that keeps each file but locks from when it is saved (Object Lock) is told to keep some longer. Calls may run concurrently. */
export interface FileLocks {
  /** So long from when a file is saved, ms. */
  readonly forMs: number
  /** Until when a file is kept, gone by or not; undefined = it is not. NOT_FOUND; CONFIG when the login may not ask. */
  end(file: FileRef, options?: Abortable): Promise<Date | undefined>
  /**
   * Has a file kept until `least` at least: one that is not is kept until `to` from now on, in the mode that it is kept in. No lock is made shorter, whoever asks for what meanwhile. Tells until when it is
   * kept then. Idempotent. NOT_FOUND; CONFIG when the login may not, or the server does not do it.
   */
  keep(file: FileRef, least: Date, to: Date, options?: Abortable): Promise<{ readonly until: Date; readonly lengthened: boolean }>
  /** Takes a file that is kept out of every listing; its bytes stay with the server until then. A missing one is success. CONFLICT where the server refuses. */
  hide(file: FileRef, options?: Abortable): Promise<void>
}

/** A backend that also knows what a process that died leaves behind there. Both are called when no such process lives, and are idempotent. */
export interface RepositoryPlace extends Backend {
  /** Removes what was half saved by writers of this run (`run` of the backend they used); what was removed, for people. */
  removeHalfSaved(run: RunId): Promise<readonly string[]>
  /**
   * Removes what an `initRepository` left that did not come to its end: its key file, the parts of files being saved, and folders while they are
   * empty. A repository with a configuration is complete and stays, but for the parts of a key of this name that was being added to it.
   */
  removeUnfinished(key: string): Promise<void>
}
