/**
 * One file of a disk's chain, opened: the flat base or a redo log. Calls are synchronous and short. `below` reads the view underneath,
 * for formats whose grain is larger than a sector.
 */
export interface Link {
  /** Bytes. */
  readonly capacity: number
  /** Ordered, gapless runs covering exactly the range; neighbours merged. `at` is where data lies in the file, to be read with `readAt`. */
  runs(offset: number, length: number, sparse: boolean): Generator<Run>
  readAt(at: number, into: Uint8Array): void
  /** Whole sectors inside the capacity. */
  write(offset: number, data: Uint8Array, below: Below): void
  /** Makes whole grains inside the range read as zeros without storing them; absent where the format cannot. Returns what it did. */
  zero?(offset: number, length: number): { readonly offset: number; readonly length: number }
  /** Brings header fields up to date. */
  flush(): void
  close(): void
}

export type Run = {
  readonly offset: number
  readonly length: number
  /** `absent` = ask the link below. */
  readonly kind: 'data' | 'zero' | 'absent'
  readonly at: number
}

export type Below = (offset: number, into: Uint8Array) => void

/** What a link needs of the outside: room on the datastore before it grows. */
export type LinkOptions = { readonly readonly: boolean; readonly charge: (bytes: number) => void; readonly subject: string }

/** Joins neighbouring runs that read as one. */
export function* mergedRuns(runs: Iterable<Run>): Generator<Run> {
  let current: Run | undefined
  for (const run of runs) {
    if (current !== undefined && current.kind === run.kind && (run.kind !== 'data' || current.at + current.length === run.at)) {
      current = { ...current, length: current.length + run.length }
    } else {
      if (current !== undefined) yield current
      current = run
    }
  }
  if (current !== undefined) yield current
}
