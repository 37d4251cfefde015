/**
 * Works on up to `depth` items at once and yields the results in order. Ends, also early or with an error, only when no work is left
 * under way.
 */
export async function* ahead<T, U>(items: AsyncIterable<T>, depth: number, work: (item: T) => Promise<U>): AsyncGenerator<U> {
  const queue: Promise<U>[] = []
  const start = (item: T): void => {
    const result = work(item)
    // The rejection is met when its turn comes; until then it must not count as unhandled.
    result.catch(() => undefined)
    queue.push(result)
  }
  try {
    for await (const item of items) {
      start(item)
      const first = queue.length >= depth ? queue.shift() : undefined
      if (first !== undefined) yield await first
    }
    for (let first = queue.shift(); first !== undefined; first = queue.shift()) yield await first
  } finally {
    await Promise.allSettled(queue)
  }
}
