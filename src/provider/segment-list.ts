import { KIB, mergeRanges, type Range } from '../core/index.ts'

/** Most segments a list holds, and so most entries of a sparse map: about 10 MB of memory, 8 MB of map. */
export const MOST_SEGMENTS = 262_144

/**
 * Gathers ordered ranges into a list of bounded length: neighbours are joined, and when there are still too many, those nearest to each
 * other too. What comes out covers what went in.
 */
export async function gatherSegments(ranges: AsyncIterable<Range>, most = MOST_SEGMENTS): Promise<readonly Range[]> {
  let segments: Range[] = []
  let gap = 0
  for await (const range of ranges) {
    const last = segments.at(-1)
    if (last !== undefined && range.offset <= last.offset + last.length + gap) {
      segments[segments.length - 1] = { offset: last.offset, length: Math.max(last.length, range.offset + range.length - last.offset) }
    } else {
      segments.push({ offset: range.offset, length: range.length })
    }
    while (segments.length > most) {
      gap = gap === 0 ? 64 * KIB : gap * 2
      segments = mergeRanges(segments, gap)
    }
  }
  return segments
}
