import { openPlace, type PlaceDeps } from './open-place.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { RepositoryLocks } from './provider.ts'

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
