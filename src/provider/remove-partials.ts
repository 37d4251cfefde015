import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fromErrno, isMissing, removeTree, type RunId } from '../core/index.ts'
import { isSpoolOf } from './digest-spool.ts'
import { parseProviderUrl } from './provider-url.ts'

/** What one run's writers write to; `temporary` is where they keep what they need only meanwhile. */
export type RunPlaces = { readonly url: string; readonly run: RunId; readonly temporary?: string }

/**
 * Removes what the writers of one run left when their process died: in the destination half-written archives, exports and files of a restic
 * repository, which nobody lists, and temporary files. (Whole packs without a snapshot go at the repository's next prune.) Called when no writer
 * of that run lives. Idempotent; a destination that is gone is success. Returns the paths removed.
 */
export async function removePartials({ url, run, temporary }: RunPlaces): Promise<readonly string[]> {
  const { scheme, path } = parseProviderUrl(url)
  const spools =
    (scheme === 'tar' || scheme === 'command') && temporary !== undefined ? await removeFrom(temporary, (name) => isSpoolOf(name, run)) : []
  if ((scheme === 'tar' && path === '-') || scheme === 'command') return spools
  const directory = scheme === 'tar' && path.endsWith('.tar') ? dirname(resolve(path)) : resolve(path)
  return [...spools, ...(await removeFrom(directory, (name) => isPartialOf(name, run)))]
}

async function removeFrom(directory: string, isOurs: (name: string) => boolean): Promise<readonly string[]> {
  try {
    const ours = (await readdir(directory)).filter(isOurs).map((name) => join(directory, name))
    for (const path of ours) await removeTree(path)
    return ours
  } catch (error) {
    // No directory (any more), or a device: nothing of ours can be there.
    if (isMissing(error) || (error instanceof Error && 'code' in error && error.code === 'ENOTDIR')) return []
    throw fromErrno(error, directory) ?? error
  }
}

const isPartialOf = (name: string, run: RunId): boolean =>
  name.startsWith('.') && (name.endsWith(`.${run}.partial`) || name.endsWith(`.${run}.tar.partial`))
