import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fromErrno, isMissing, removeTree, type RunId } from '../core/index.ts'
import { parseProviderUrl } from './provider-url.ts'

/**
 * Removes what the writers of one run left in a destination when their process died: half-written archives and exports, which nobody lists.
 * Called by recovery only, never while a process of that run lives. A restic repository has none (its packs without a snapshot go at the
 * next prune). Idempotent; a destination that is gone is success. Returns the paths removed.
 */
export async function removePartials(url: string, run: RunId): Promise<readonly string[]> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme === 'restic' || path === '-') return []
  const directory = scheme === 'tar' && path.endsWith('.tar') ? dirname(resolve(path)) : resolve(path)
  try {
    const ours = (await readdir(directory)).filter((name) => name.startsWith('.') && isPartialOf(name, run))
    for (const name of ours) await removeTree(join(directory, name))
    return ours.map((name) => join(directory, name))
  } catch (error) {
    // No directory (any more), or a device: nothing of ours can be there.
    if (isMissing(error) || (error instanceof Error && 'code' in error && error.code === 'ENOTDIR')) return []
    throw fromErrno(error, directory) ?? error
  }
}

const isPartialOf = (name: string, run: RunId): boolean => name.endsWith(`.${run}.partial`) || name.endsWith(`.${run}.tar.partial`)
