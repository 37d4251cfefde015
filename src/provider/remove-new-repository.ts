import { removeUnfinishedRepository } from '../restic/index.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { NewRepository } from './provider.ts'

/** Removes a repository that was being made when its process died; one that is complete stays. Called by its claim's releaser. Idempotent. */
export async function removeNewRepository({ url, key }: NewRepository): Promise<void> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme === 'restic') await removeUnfinishedRepository(path, key)
}
