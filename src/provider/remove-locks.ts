import { isAgentError } from '../core/index.ts'
import { openPlace, type PlaceDeps } from './open-place.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { RepositoryLocks } from './provider.ts'
import { parseResticPlace } from './restic-place.ts'

/**
 * Removes lock files of ours by name, and what a save of them that was cut short left. Called by their claim's releaser, when nobody uses the
 * locks any more; needs no password of the repository. Idempotent; a repository that is gone is success.
 */
export async function removeLocks({ url, names }: RepositoryLocks, deps?: PlaceDeps): Promise<void> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic') return
  await using place = openPlace(path, deps)
  for (const name of names) await place.remove({ kind: 'lock', name })
}

/**
 * Whether any of these lock files is at the same path on this machine, of a repository in a directory: their names are digests of what only their process wrote, so it is that repository. False where it cannot be
 * told.
 */
export async function hasLocks({ url, names }: RepositoryLocks): Promise<boolean> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic' || parseResticPlace(path).kind !== 'directory') return false
  await using place = openPlace(path, undefined)
  try {
    for (const name of names) if ((await place.stat({ kind: 'lock', name })) !== undefined) return true
  } catch (error) {
    if (!isAgentError(error)) throw error
  }
  return false
}
