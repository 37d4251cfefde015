import { openPlace, type PlaceDeps } from './open-place.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { NewRepository } from './provider.ts'

/** Removes a repository that was being made when its process died; one that is complete stays. Called by its claim's releaser. Idempotent. */
export async function removeNewRepository({ url, key }: NewRepository, deps?: PlaceDeps): Promise<void> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic') return
  await using place = openPlace(path, deps)
  await place.removeUnfinished(key)
}
