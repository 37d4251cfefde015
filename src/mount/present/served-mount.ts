import { type Clock, type ClaimId, type Log } from '../../core/index.ts'
import { type FuseOptions, type FuseServer } from '../../fuse/index.ts'
import type { Claims, Held } from '../../journal/index.ts'
import type { MountedFileSystem } from '../../transport/index.ts'
import { isMountedIn, markOf } from './mount-table.ts'

export type PresentDeps = { readonly clock: Clock; readonly log: Log }

/** Files that this process serves in a directory, held by a claim. Disposal unmounts them and then ends serving; what cannot be unmounted stays in the journal. */
export type ServedMount = AsyncDisposable & {
  readonly server: FuseServer
  readonly claim: Held<'fuseMount'>
  /** Why nobody can read there any more, though it was not ended here; undefined while somebody can. `table`: what is mounted now. */
  lost(table: readonly MountedFileSystem[]): string | undefined
}

/** Mounts what `serve` serves for the claim of this id on `directory`, which is there and empty. Errors: as `serveFiles`. */
export async function mountServed(
  serve: (claim: ClaimId, options: FuseOptions) => Promise<FuseServer>,
  directory: string,
  { clock, log }: PresentDeps,
  claims: Claims,
  dependsOn: readonly ClaimId[],
): Promise<ServedMount> {
  const serving = new AsyncDisposableStack()
  let server: FuseServer | undefined
  try {
    const claim = await claims.take('fuseMount', { path: directory }, dependsOn, async (id) => {
      server = serving.use(await serve(id, { directory, mark: markOf(id), clock, log }))
      return { path: directory }
    })
    if (server === undefined) throw new TypeError('unreachable: the claim was taken')
    let over = false
    void server.ended.then(() => (over = true))
    return {
      server,
      claim,
      lost: (table) => {
        if (!isMountedIn(table, directory, markOf(claim.id))) return unmounted(directory)
        return over ? `What is mounted on ${directory} is served no more.` : undefined
      },
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

export const unmounted = (directory: string): string => `${directory} was unmounted by somebody else.`
