/** Waits for all of these, also after one has failed, then throws the first failure: for works that share memory, which must not be used again under one of them. Results in their order. */
export async function allEnded<T>(works: readonly Promise<T>[]): Promise<readonly T[]> {
  // The usual case by far; the rest of this makes six objects for it.
  const [only] = works
  if (only === undefined) return []
  if (works.length === 1) return [await only]
  const results: T[] = []
  let failure: { readonly reason: unknown } | undefined
  for (const ended of await Promise.allSettled(works)) {
    if (ended.status === 'fulfilled') results.push(ended.value)
    else failure ??= ended
  }
  if (failure !== undefined) throw failure.reason
  return results
}
