import { type Abortable, isAgentError, type PointId } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import type { PointStore } from '../provider/index.ts'

/** Removes one export at its user's wish: either it is whole or it is gone, and what is left of its files is a claim until they are. Idempotent. */
export async function removeExport(
  store: PointStore,
  claims: Claims,
  { url, point }: { readonly url: string; readonly point: PointId },
  options: Abortable = {},
): Promise<void> {
  const removal = await claims.take('pointRemoval', { url, point }, [], async () => {
    try {
      await store.delete(point, options)
    } catch (error) {
      // Somebody was faster: what was wanted is so.
      if (!isAgentError(error, 'NOT_FOUND')) throw error
    }
    return { url, point }
  })
  await claims.release(removal.id)
}
