/** What happens when, in a simulation. */
export interface Timeline {
  add(at: number, happens: () => void): void
  /** Lets everything of the next moment happen, in the order it was added, what it adds for the same moment included; that moment, or undefined at the end. */
  step(): number | undefined
}

type Entry = { readonly at: number; readonly order: number; readonly happens: () => void }

const before = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

/** A binary heap. */
export function createTimeline(): Timeline {
  const heap: Entry[] = []
  let count = 0
  const swap = (a: number, b: number): void => {
    const [one, other] = [heap[a], heap[b]]
    if (one !== undefined && other !== undefined) [heap[a], heap[b]] = [other, one]
  }
  const isBefore = (a: number, b: number): boolean => {
    const [one, other] = [heap[a], heap[b]]
    return one !== undefined && (other === undefined || before(one, other))
  }
  const take = (): Entry | undefined => {
    const first = heap[0]
    const last = heap.pop()
    if (heap.length === 0 || last === undefined) return first
    heap[0] = last
    for (let at = 0; ; ) {
      const child = isBefore(2 * at + 2, 2 * at + 1) ? 2 * at + 2 : 2 * at + 1
      if (!isBefore(child, at)) return first
      swap(at, child)
      at = child
    }
  }
  return {
    add: (at, happens) => {
      heap.push({ at, order: count++, happens })
      for (let index = heap.length - 1; index > 0; ) {
        const parent = (index - 1) >> 1
        if (!isBefore(index, parent)) return
        swap(index, parent)
        index = parent
      }
    },
    step: () => {
      const now = heap[0]?.at
      for (let next = heap[0]; next !== undefined && next.at === now; next = heap[0]) take()?.happens()
      return now
    },
  }
}
