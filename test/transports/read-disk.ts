import { type BlockSource, type Extent, MIB, type Range, rangeEnd } from '../../src/core/index.ts'
import type { ImageUnderTest } from './image-under-test.ts'

/** Reads under way at once. */
const DEPTH = 4

/** Reads what of `areas` the source calls data into `image`, as a backup does: in order, a few reads of at most 1 MiB ahead. The bytes read. */
export async function readInto(image: ImageUnderTest, source: BlockSource, areas: Iterable<Range>): Promise<number> {
  const pieces = dataPieces(source, areas)
  let bytes = 0
  const worker = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafeSlow(MIB)
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
      const into = buffer.subarray(0, next.value.length)
      // What is not written by the read must not look like data.
      into.fill(0xee)
      await source.read(next.value.offset, into)
      image.write(next.value.offset, into)
      bytes += into.length
    }
  }
  try {
    // None is left under way when one has failed: the source is closed next.
    const results = await Promise.allSettled(Array.from({ length: DEPTH }, worker))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  } finally {
    await pieces.return(undefined)
  }
  return bytes
}

async function* dataPieces(source: BlockSource, areas: Iterable<Range>): AsyncGenerator<Range, undefined> {
  for (const area of areas) {
    let at = area.offset
    for await (const extent of source.extents(area)) {
      if (extent.offset !== at) throw new Error(`an extent at ${extent.offset} where ${at} was expected`)
      at = rangeEnd(extent)
      if (extent.kind === 'absent') throw new Error(`the bytes at ${extent.offset} are absent in a whole disk`)
      if (extent.kind === 'data') yield* cut(extent)
    }
    if (at !== rangeEnd(area)) throw new Error(`the extents end at ${at} instead of ${rangeEnd(area)}`)
  }
  return undefined
}

function* cut(extent: Extent): Generator<Range> {
  for (let at = extent.offset; at < rangeEnd(extent); ) {
    const stop = Math.min(rangeEnd(extent), (Math.floor(at / MIB) + 1) * MIB)
    yield { offset: at, length: stop - at }
    at = stop
  }
}
