import { anySignal } from '../core/index.ts'

/**
 * `work` on every item, at most `most` at a time, begun in order; the results in the order of the items. The first failure aborts the signal of the
 * others, all of which are waited for before it is thrown.
 */
export async function sideBySide<T, R>(
  items: readonly T[],
  most: number,
  work: (item: T, signal: AbortSignal | undefined) => Promise<R>,
  signal?: AbortSignal,
): Promise<readonly R[]> {
  const failed = new AbortController()
  const within = most > 1 ? anySignal(signal, failed.signal) : signal
  const results: R[] = []
  let next = 0
  let failure: { readonly error: unknown } | undefined
  const lane = async (): Promise<void> => {
    while (failure === undefined && next < items.length) {
      const index = next++
      const item = items[index]
      if (item === undefined) return
      try {
        results[index] = await work(item, within)
      } catch (error) {
        failure ??= { error }
        failed.abort(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, Math.min(most, items.length)) }, lane))
  if (failure !== undefined) throw failure.error
  return results
}
