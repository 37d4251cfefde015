import type { Backend } from './backend.ts'

/** A repository in a local (or mounted) directory, in restic's local layout. The directory is made when something is saved. */
export declare function directoryBackend(path: string): Backend
