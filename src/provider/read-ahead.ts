import { type Abortable, type BlockSource, MIB, type Range, rangeEnd, readMemory } from '../core/index.ts'

/** Reads under way at once. */
const DEPTH = 4
const STEP = MIB

export type ReadChunk = { readonly bytes: Uint8Array; readonly fromSource: boolean; readonly offset: number }

/**
 * The bytes of ordered segments, in order, in chunks of at most 1 MiB, several reads ahead of the consumer. What the source calls zero is not
 * read. Each chunk is memory of its own, so that it may lie in a stream's queue.
 */
export async function* readSegments(source: BlockSource, segments: Iterable<Range>, options: Abortable): AsyncGenerator<ReadChunk> {
  const queue: Promise<ReadChunk>[] = []
  try {
    for await (const piece of pieces(source, segments, options)) {
      const bytes = readMemory(piece.length)
      queue.push(
        piece.zero
          ? Promise.resolve({ bytes: bytes.fill(0), fromSource: false, offset: piece.offset })
          : source.read(piece.offset, bytes, options).then(() => ({ bytes, fromSource: true, offset: piece.offset })),
      )
      // A read that fails while another is awaited is seen when its turn comes, or below.
      queue.at(-1)?.catch(() => undefined)
      if (queue.length >= DEPTH) {
        const first = queue.shift()
        if (first !== undefined) yield await first
      }
    }
    for (let first = queue.shift(); first !== undefined; first = queue.shift()) yield await first
  } finally {
    // The source must not be closed under a read.
    await Promise.allSettled(queue)
  }
}

async function* pieces(
  source: BlockSource,
  segments: Iterable<Range>,
  options: Abortable,
): AsyncGenerator<Range & { readonly zero: boolean }> {
  for (const segment of segments) {
    for await (const extent of source.extents(segment, options)) {
      for (let offset = extent.offset; offset < rangeEnd(extent); offset += STEP) {
        yield { offset, length: Math.min(STEP, rangeEnd(extent) - offset), zero: extent.kind === 'zero' }
      }
    }
  }
}
