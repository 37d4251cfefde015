import { readdir, readlink, realpath } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Other processes that have a file of this directory open, also one that was renamed or deleted since: every vcb keeps its state database open, so
 * these are the ones that may hold something a lost journal knew. Linux through /proc; of other users' processes only root sees the files, but the
 * state directory is private to one user.
 */
export async function holdersOf(directory: string): Promise<readonly number[]> {
  const place = `${await realpath(directory)}/`
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    if (await holds(join('/proc', name, 'fd'), place)) found.push(Number(name))
  }
  return found
}

async function holds(descriptors: string, place: string): Promise<boolean> {
  try {
    for (const descriptor of await readdir(descriptors)) {
      if ((await readlink(join(descriptors, descriptor))).startsWith(place)) return true
    }
  } catch (error) {
    // Ended meanwhile, a descriptor closed meanwhile, or another user's.
    if (!(error instanceof Error) || !('code' in error) || !['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(String(error.code))) throw error
  }
  return false
}
