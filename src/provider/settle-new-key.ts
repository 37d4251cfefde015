import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fromErrno, isMissing, removeFile } from '../core/index.ts'
import { CONFIG_FILE } from '../restic/index.ts'
import { openPlace, type PlaceDeps } from './open-place.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { NewKey } from './provider.ts'

/**
 * Ends what `vcb key add` began and did not end. The key file is there whole or not at all: where it is there, its password is kept; where it is not, the file with the
 * password goes, as it opens nothing. So there is never a key whose password nobody has. Called by its claim's releaser; needs no password of the repository. Idempotent.
 */
export async function settleNewKey({ url, key, password }: NewKey, deps?: PlaceDeps): Promise<void> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic') return
  await using place = openPlace(path, deps)
  // Nothing is known of a repository that is not mounted now.
  if ((await place.stat(CONFIG_FILE)) === undefined) return
  await place.removeUnfinished(key)
  if (password === undefined || (await place.stat({ kind: 'key', name: key })) !== undefined) return
  if (await isOurs(password)) await removeFile(password.path)
}

/** As it was written, or made and not written yet. */
async function isOurs({ path, sha256 }: NonNullable<NewKey['password']>): Promise<boolean> {
  try {
    const bytes = await readFile(path)
    return bytes.length === 0 || hash('sha256', bytes) === sha256
  } catch (error) {
    if (isMissing(error)) return false
    throw fromErrno(error, path) ?? error
  }
}
