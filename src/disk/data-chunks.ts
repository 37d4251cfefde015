import {
  type Abortable,
  AgentError,
  alignRange,
  type BlockSource,
  clipRange,
  type Range,
  rangeEnd,
  readMemory,
  throwIfAborted,
} from '../core/index.ts'
import { ahead } from './ahead.ts'

/** Bytes of one chunk, and how many are read ahead of the consumer. */
const CHUNK = 1024 * 1024
const READS_AHEAD = 8

/** Part of a disk with its bytes; `data` is reused after the next one was asked for. */
export type Chunk = { readonly offset: number; readonly data: Uint8Array }

/**
 * Reads everything in `range` that is not zero, in order, in chunks of at most 1 MiB that begin and end at multiples of `unit` counted
 * from the start of `range` (or at its end). Each byte is read once. `memory` makes what chunks are read into, ten times.
 */
export async function* dataChunks(
  source: BlockSource,
  range: Range,
  unit: number,
  options?: Abortable,
  memory: (bytes: number) => Buffer = readMemory,
): AsyncGenerator<Chunk> {
  const pool = Array.from({ length: READS_AHEAD + 2 }, () => memory(CHUNK))
  let turn = 0
  yield* ahead(dataPieces(source, range, unit, options), READS_AHEAD, async (piece): Promise<Chunk> => {
    const data = (pool[turn++ % pool.length] ?? Buffer.alloc(CHUNK)).subarray(0, piece.length)
    await source.read(piece.offset, data, options)
    return { offset: piece.offset, data }
  })
}

/** The same, not read, in pieces of `most` bytes. */
export async function* dataPieces(
  source: BlockSource,
  within: Range,
  unit: number,
  options?: Abortable,
  most: number = CHUNK,
): AsyncGenerator<Range> {
  for await (const range of alignedData(source, within, unit, options)) {
    for (let offset = range.offset; offset < rangeEnd(range); offset += most) {
      yield { offset, length: Math.min(most, rangeEnd(range) - offset) }
    }
  }
}

/** The data extents of `range`, widened to whole units and joined where they then touch. */
async function* alignedData(source: BlockSource, range: Range, unit: number, options?: Abortable): AsyncGenerator<Range> {
  let current: Range | undefined
  for await (const extent of source.extents(range, options)) {
    throwIfAborted(options)
    if (extent.kind === 'absent') {
      throw new AgentError('USAGE', 'One link of a snapshot chain was given where a complete disk is needed.', {
        next: 'Open the whole chain; report this as a defect of vcb otherwise.',
      })
    }
    if (extent.kind === 'zero') continue
    const wide = alignRange({ offset: extent.offset - range.offset, length: extent.length }, unit)
    const next = clipRange(wide, range.length)
    if (next === undefined) continue
    const placed = { offset: next.offset + range.offset, length: next.length }
    if (current !== undefined && placed.offset <= rangeEnd(current)) {
      current = { offset: current.offset, length: Math.max(rangeEnd(current), rangeEnd(placed)) - current.offset }
    } else {
      if (current !== undefined) yield current
      current = placed
    }
  }
  if (current !== undefined) yield current
}
