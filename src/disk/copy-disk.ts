import { type Abortable, AgentError, type BlockSink, type BlockSource, MIB, type Range, rangeEnd, sharedMemory } from '../core/index.ts'
import { ahead } from './ahead.ts'
import { type Chunk, dataChunks, dataPieces } from './data-chunks.ts'

/** Small data extents are read together in pieces of 64 KiB; the sink finds the zeros between them again. */
const UNIT = 65_536
/** What threads write in one go, bytes, and how many of these are under way: enough that they never wait for the next one. */
const PIECE = 8 * MIB
const PIECES_AHEAD = 6

/** How far a copy or an export is. */
export type ExportProgress = {
  /** Bytes of the disk decided so far; ends at its size. */
  readonly doneBytes: number
  /** Bytes written to the target so far. */
  readonly writtenBytes: number
}

/**
 * Copies a whole disk into a sink of at least its size, which reads as zeros, then flushes. What is zero in the source is zeroed, not written. Reads ahead; where source and sink
 * can do so, bytes go to the file from the threads that open them. The caller disposes both.
 */
export async function copyDisk(
  source: BlockSource,
  sink: BlockSink,
  options: Abortable & { readonly onProgress?: ((progress: ExportProgress) => void) | undefined } = {},
): Promise<void> {
  if (sink.size < source.size) {
    throw new AgentError('USAGE', `A disk of ${source.size} bytes does not fit into one of ${sink.size}.`, {
      next: 'Choose a larger target.',
    })
  }
  let done = 0
  let written = 0
  for await (const { range, bytes } of copied(source, sink, options)) {
    if (range.offset > done) await sink.zero({ offset: done, length: range.offset - done }, options)
    done = rangeEnd(range)
    written += bytes
    options.onProgress?.({ doneBytes: done, writtenBytes: written })
  }
  if (sink.size > done) await sink.zero({ offset: done, length: sink.size - done }, options)
  await sink.flush(options)
  options.onProgress?.({ doneBytes: source.size, writtenBytes: written })
}

type Copied = { readonly range: Range; readonly bytes: number }

/** Chunks that have been written, in order. */
async function* copied(source: BlockSource, sink: BlockSink, options: Abortable): AsyncGenerator<Copied> {
  const whole = { offset: 0, length: source.size }
  if (source.writeTo === undefined || sink.writeBy === undefined) {
    // A repository's threads open blocks right where the sink takes them from.
    for await (const chunk of dataChunks(source, whole, UNIT, options, sharedMemory)) yield await writeChunk(sink, chunk, options)
    return
  }
  const pieces = dataPieces(source, whole, UNIT, options, PIECE)
  yield* ahead(pieces, PIECES_AHEAD, async (range): Promise<Copied> => {
    const bytes = await sink.writeBy?.(range, (place) => source.writeTo?.(range, place, options) ?? Promise.resolve(undefined), options)
    if (bytes !== undefined) return { range, bytes }
    const data = sharedMemory(range.length)
    await source.read(range.offset, data, options)
    return await writeChunk(sink, { offset: range.offset, data }, options)
  })
}

async function writeChunk(sink: BlockSink, { offset, data }: Chunk, options: Abortable): Promise<Copied> {
  await sink.write(offset, data, options)
  return { range: { offset, length: data.length }, bytes: data.length }
}
