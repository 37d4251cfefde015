import { join, resolve } from 'node:path'
import { fromErrno, type PointId, removeTree } from '../core/index.ts'
import { isSafeName } from './point-names.ts'
import { parseProviderUrl } from './provider-url.ts'

/** Where a point of a directory export is while its files are being removed: hidden, so that nobody lists it. */
export const deletedPath = (directory: string, point: PointId): string => join(directory, `.${point}.deleted`)

/**
 * Finishes the removal of a point that is in no list any more: of a directory export its hidden directory. Archives and restic snapshots go in
 * one step and leave nothing. A point that is still listed is not touched. Called by each removal and by recovery; idempotent.
 * CONFIG (no access), UNAVAILABLE.
 */
export async function removeDeleted(url: string, point: PointId): Promise<void> {
  const { scheme, path } = parseProviderUrl(url)
  if ((scheme !== 'dir' && scheme !== 'vcb') || !isSafeName(point)) return
  const doomed = deletedPath(resolve(path), point)
  try {
    await removeTree(doomed)
  } catch (error) {
    throw fromErrno(error, doomed) ?? error
  }
}
