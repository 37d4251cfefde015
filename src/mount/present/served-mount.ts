import { type Clock, type ClaimId, type Log } from '../../core/index.ts'
import { type FileToServe, type FuseServer, serveFiles } from '../../fuse/index.ts'
import type { Claims, Held } from '../../journal/index.ts'
import { markOf } from './mount-table.ts'

export type PresentDeps = { readonly clock: Clock; readonly log: Log }

/** Files that this process serves in a directory, held by a claim. Disposal unmounts them and then ends serving; what cannot be unmounted stays in the journal. */
export type ServedMount = AsyncDisposable & { readonly server: FuseServer; readonly claim: Held<'fuseMount'> }

/** Mounts what `filesOf` makes of the claim's id on `directory`, which is there and empty. Errors: as `serveFiles`. */
export async function mountFiles(
  filesOf: (claim: ClaimId) => readonly FileToServe[],
  directory: string,
  { clock, log }: PresentDeps,
  claims: Claims,
  dependsOn: readonly ClaimId[],
): Promise<ServedMount> {
  const serving = new AsyncDisposableStack()
  let server: FuseServer | undefined
  try {
    const claim = await claims.take('fuseMount', { path: directory }, dependsOn, async (id) => {
      server = serving.use(await serveFiles({ directory, files: filesOf(id), mark: markOf(id), clock, log }))
      return { path: directory }
    })
    if (server === undefined) throw new TypeError('unreachable: the claim was taken')
    return {
      server,
      claim,
      [Symbol.asyncDispose]: async () => {
        try {
          await claims.release(claim.id)
        } finally {
          await serving.disposeAsync()
        }
      },
    }
  } catch (error) {
    await serving.disposeAsync()
    throw error
  }
}
