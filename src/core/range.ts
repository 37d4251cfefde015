/** Bytes. A 62 TB disk is below 2^53, so `number` is exact. */
export type Range = { readonly offset: number; readonly length: number }

/** `data` must be read; `zero` reads as zeros without reading; `absent` = this layer holds nothing, ask the parent. */
export type ExtentKind = 'data' | 'zero' | 'absent'
export type Extent = Range & { readonly kind: ExtentKind }

export const rangeEnd = (range: Range): number => range.offset + range.length

/** Sorted, non-overlapping, neighbours merged; neighbours up to `gap` bytes apart are merged too. Empty ranges vanish. */
export function mergeRanges(ranges: Iterable<Range>, gap = 0): Range[] {
  const sorted = [...ranges].filter((range) => range.length > 0).sort((a, b) => a.offset - b.offset)
  const merged: { offset: number; length: number }[] = []
  for (const range of sorted) {
    const last = merged.at(-1)
    if (last !== undefined && range.offset <= last.offset + last.length + gap) {
      last.length = Math.max(last.length, rangeEnd(range) - last.offset)
    } else {
      merged.push({ offset: range.offset, length: range.length })
    }
  }
  return merged
}

/** The part of `range` inside `[0, size)`; undefined when nothing is left. */
export function clipRange(range: Range, size: number): Range | undefined {
  const offset = Math.max(0, range.offset)
  const end = Math.min(size, rangeEnd(range))
  return end > offset ? { offset, length: end - offset } : undefined
}

/** Common part of two ranges; undefined when they do not touch. */
export function intersectRanges(a: Range, b: Range): Range | undefined {
  const offset = Math.max(a.offset, b.offset)
  const end = Math.min(rangeEnd(a), rangeEnd(b))
  return end > offset ? { offset, length: end - offset } : undefined
}

/** Widens a range outwards to multiples of `unit` bytes. */
export function alignRange(range: Range, unit: number): Range {
  const offset = Math.floor(range.offset / unit) * unit
  return { offset, length: Math.ceil(rangeEnd(range) / unit) * unit - offset }
}

export const totalLength = (ranges: Iterable<Range>): number => {
  let sum = 0
  for (const range of ranges) sum += range.length
  return sum
}

/** Joins neighbouring extents of the same kind in an ordered stream. Holds one extent at a time. */
export async function* coalesceExtents(extents: AsyncIterable<Extent> | Iterable<Extent>): AsyncGenerator<Extent> {
  let current: Extent | undefined
  for await (const extent of extents) {
    if (extent.length === 0) continue
    if (current !== undefined && current.kind === extent.kind && rangeEnd(current) === extent.offset) {
      current = { ...current, length: current.length + extent.length }
    } else {
      if (current !== undefined) yield current
      current = extent
    }
  }
  if (current !== undefined) yield current
}
