import type { PointDeletion, PointStore } from './provider.ts'

/** Removals in a destination that has no locks. */
export function unlockedDeletion(points: Pick<PointStore, 'delete'>): PointDeletion {
  return {
    signal: undefined,
    delete: (id, options) => points.delete(id, options),
    async [Symbol.asyncDispose]() {
      // Nothing is held.
    },
  }
}
