import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { AgentError, fromErrno, isAgentError, isMissing, removeTree, type RunId } from '../core/index.ts'
import { type BorgDeps, openBorg } from './borg-product.ts'
import { openPlace, type PlaceDeps } from './open-place.ts'
import { openResticBinary } from './restic-binary-product.ts'
import { isSpoolOf } from './digest-spool.ts'
import { isProduct, parseProviderUrl } from './provider-url.ts'

/** What one run's writers write to; `temporary` is where they keep what they need only meanwhile. */
export type RunPlaces = { readonly url: string; readonly run: RunId; readonly temporary?: string }

/** What a product's program needs to run; for its repositories. */
export type ProductDeps = BorgDeps

/** Of the repository that is asked for. */
export type RemovalDeps = { readonly product?: ProductDeps | undefined; readonly place?: PlaceDeps | undefined }

/**
 * Removes what the writers of one run left when their process died: in the destination half-written archives, exports and files of a restic
 * repository, which nobody lists, unproven archives in a product's repository, and temporary files. (Whole packs without a snapshot go at the repository's next prune.) Called when no writer
 * of that run lives. Idempotent; a destination that is gone is success. Returns the paths removed.
 */
export async function removePartials({ url, run, temporary }: RunPlaces, deps: RemovalDeps = {}): Promise<readonly string[]> {
  const { scheme, path } = parseProviderUrl(url)
  const streamed = scheme === 'tar' || scheme === 'command' || scheme === 'tape' || isProduct(scheme)
  const spools = streamed && temporary !== undefined ? await removeFrom(temporary, (name) => isSpoolOf(name, run)) : []
  if (isProduct(scheme)) {
    if (deps.product === undefined) throw new AgentError('INTERNAL', `Nobody here can start the program of ${url}.`)
    const product = await (scheme === 'borg' ? openBorg : openResticBinary)(path, deps.product).catch(goneIsFine)
    return [...spools, ...((await product?.removeIncomplete(run)) ?? [])]
  }
  if (scheme === 'restic') {
    await using place = openPlace(path, deps.place)
    return await place.removeHalfSaved(run)
  }
  if ((scheme === 'tar' && path === '-') || scheme === 'command') return spools
  const directory = scheme === 'tar' && path.endsWith('.tar') ? dirname(resolve(path)) : resolve(path)
  return [...spools, ...(await removeFrom(directory, (name) => isPartialOf(name, run)))]
}

/** A repository that is gone holds nothing of ours. */
function goneIsFine(error: unknown): undefined {
  if (!isAgentError(error, 'NOT_FOUND')) throw error
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
