import { CONFIG_FILE } from '../restic/index.ts'
import { openPlace, type PlaceDeps } from './open-place.ts'
import { parseProviderUrl } from './provider-url.ts'

/** Whether a complete restic repository is at a URL; needs no password of it. CONFIG (no access), and what its server answers. */
export async function hasRepository(url: string, deps?: PlaceDeps): Promise<boolean> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic') return false
  await using place = openPlace(path, deps)
  return (await place.stat(CONFIG_FILE)) !== undefined
}
