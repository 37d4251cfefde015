import type { BlockSource, ClaimId, FileReader } from '../../core/index.ts'
import { type FileActivity, serveFiles } from '../../fuse/index.ts'
import type { Claims } from '../../journal/index.ts'
import { makeMountPoint } from './mount-point.ts'
import { mountTable } from './mount-table.ts'
import { mountServed, type PresentDeps } from './served-mount.ts'

/** A disk to show as a raw file. */
export type ImageToPresent = {
  /** A file name, unique: `NAME.raw`. */
  readonly name: string
  readonly source: BlockSource
  /** The moment it shows: the file's mtime, which does not change from one `stat` to the next. */
  readonly modified: Date
}

/** Disposal unmounts them, waiting a few seconds for who still reads. */
export interface PresentedImages extends AsyncDisposable {
  readonly activity: readonly FileActivity[]
  /** Why they cannot be read any more, though nothing here has ended it: one sentence. Asked now and then; reads the mount table alone. */
  lost(): Promise<string | undefined>
}

/**
 * Shows disks as read-only raw files in `directory`, which is made when it is missing and must be empty: of the right size, with true `st_blocks`, and with holes that
 * SEEK_HOLE tells. Root alone can read them, and `reader`. The sources stay the caller's. This process serves them: it must not read them itself, and only start programs
 * that do. Errors: CONFIG (see `mountAbilities`), those of the sources.
 */
export async function presentImages(
  images: readonly ImageToPresent[],
  directory: string,
  deps: PresentDeps,
  claims: Claims,
  dependsOn: readonly ClaimId[] = [],
  reader?: FileReader,
): Promise<PresentedImages> {
  await makeMountPoint(directory, deps)
  const mounted = await mountServed((_claim, place) => serveFiles({ ...place, files: images, reader }), directory, deps, claims, dependsOn)
  return {
    get activity() {
      return mounted.server.activity
    },
    lost: async () => mounted.lost(await mountTable()),
    [Symbol.asyncDispose]: () => mounted[Symbol.asyncDispose](),
  }
}
