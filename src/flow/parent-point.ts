import { type Abortable, isAgentError, type Manifest, type PointId, type PointSummary, toAgentError } from '../core/index.ts'
import type { BackupProvider } from '../provider/index.ts'

/** The point an incremental builds on. */
export type ParentPoint = { readonly id: PointId; readonly manifest: Manifest }

/** A point to build on, or why there is none. */
export type ParentChoice = { readonly parent: ParentPoint; readonly reason: '' } | { readonly parent: undefined; readonly reason: string }

const none = (reason: string): ParentChoice => ({ parent: undefined, reason })

/**
 * The newest of the VM's points. One that cannot be read makes a full backup with the reason, not a failed one.
 */
export async function chooseParent(
  provider: Pick<BackupProvider, 'incremental' | 'points'>,
  earlier: readonly PointSummary[],
  mode: string,
  options?: Abortable,
): Promise<ParentChoice> {
  if (mode === 'full') return none('a full backup was asked for')
  if (!provider.incremental.ok) return none(provider.incremental.reason)
  if (provider.points === undefined) return none('this destination keeps no points to build on')
  const [newest] = earlier
  if (newest === undefined) return none('there is no earlier point of this VM')
  try {
    await using reader = await provider.points.open(newest.id, options)
    return { parent: { id: newest.id, manifest: reader.manifest }, reason: '' }
  } catch (error) {
    const shown = toAgentError(error)
    if (!isAgentError(shown, 'INTEGRITY', 'NOT_FOUND')) throw error
    return none(`the last point ${newest.id.slice(0, 8)} cannot be read: ${shown.message}`)
  }
}
