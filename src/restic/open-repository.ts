import type { Secret } from '../core/index.ts'
import type { Backend } from './backend.ts'
import type { KdfParameters, Repository, RepositoryDeps, RepositoryOptions } from './repository.ts'

/**
 * Makes a new repository in an empty backend and opens it. CONFLICT when there is one already; CAPACITY, UNAVAILABLE.
 * `kdf` is for tests, which cannot spend half a second on each key.
 */
export declare function initRepository(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  options?: RepositoryOptions & { readonly kdf?: KdfParameters | undefined },
): Promise<Repository>

/**
 * Opens a repository, ours or one made by stock restic. NOT_FOUND when there is none, AUTH for a wrong password, CONFIG for format
 * version 1 or one not known. The backend stays the caller's to dispose.
 */
export declare function openRepository(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  options?: RepositoryOptions,
): Promise<Repository>
