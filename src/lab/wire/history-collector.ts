import type { ManagedObject } from './managed-object.ts'
import { isObject, type LabObject, type LabRef, type LabValue } from './value.ts'

const MAX_PAGE = 1000

/** EventHistoryCollector and TaskHistoryCollector: a window onto a log, a page at a time, newest first in `latestPage`. */
export class HistoryCollector implements ManagedObject {
  readonly ref: LabRef
  readonly #filter: LabValue
  readonly #matching: () => readonly LabObject[]
  #pageSize = 10
  /** Index in the log of the next item ReadNext gives. */
  #position: number

  /** `matching` answers the log's items that pass the filter, oldest first. */
  constructor(ref: LabRef, filter: LabValue, matching: () => readonly LabObject[]) {
    this.ref = ref
    this.#filter = filter
    this.#matching = matching
    this.#position = Math.max(0, matching().length - this.#pageSize)
  }

  property(name: string): LabValue {
    if (name === 'filter') return this.#filter
    return name === 'latestPage' ? this.#matching().slice(-this.#pageSize).reverse() : undefined
  }

  setPageSize(size: number): void {
    this.#pageSize = Math.max(1, Math.min(size, MAX_PAGE))
    this.reset()
  }

  /** To the oldest item. */
  rewind(): void {
    this.#position = 0
  }

  /** To the start of the latest page. */
  reset(): void {
    this.#position = Math.max(0, this.#matching().length - this.#pageSize)
  }

  readNext(count: number): readonly LabObject[] {
    const items = this.#matching().slice(this.#position, this.#position + Math.min(count, MAX_PAGE))
    this.#position += items.length
    return items
  }

  readPrevious(count: number): readonly LabObject[] {
    const start = Math.max(0, this.#position - Math.min(count, MAX_PAGE))
    const items = this.#matching().slice(start, this.#position)
    this.#position = start
    return items.reverse()
  }
}

/** True when `at` lies in a `{ beginTime?, endTime? }` of a filter spec. */
export function inTime(range: LabValue, at: LabValue): boolean {
  if (!isObject(range) || !(at instanceof Date)) return true
  const { beginTime, endTime } = range
  return !(beginTime instanceof Date && at < beginTime) && !(endTime instanceof Date && at > endTime)
}
