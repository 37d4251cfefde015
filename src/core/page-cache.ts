import { type NativeLibrary, nativeLibrary } from './native-library.ts'

/** `POSIX_FADV_DONTNEED` of Linux. */
const DONTNEED = 4

/** Looked up once, with the first call. */
let library: { readonly found: NativeLibrary<'posix_fadvise'> | undefined } | undefined

/**
 * Lets the system forget what it keeps in memory of an open file and has on the disk already; what it has not stays. For what this process has written and synced and nobody reads soon: memory
 * stays free for others, and the next file is written into the same memory instead of more and more of it. Only advice: nothing happens where the system takes none. Idempotent.
 */
export function leavePageCache(descriptor: number): void {
  library ??= { found: nativeLibrary({ posix_fadvise: { arguments: ['i32', 'i64', 'i64', 'i32'], return: 'i32' } }) }
  library.found?.functions.posix_fadvise(descriptor, 0n, 0n, DONTNEED)
}
