import { type Abortable, AgentError, type BlockSink, type BlockSource, rangeEnd } from '../core/index.ts'
import { dataChunks } from './data-chunks.ts'

/** Small data extents are read together in pieces of 64 KiB; the sink finds the zeros between them again. */
const UNIT = 65_536

/** How far a copy or an export is. */
export type ExportProgress = {
  /** Bytes of the disk decided so far; ends at its size. */
  readonly doneBytes: number
  /** Bytes written to the target so far. */
  readonly writtenBytes: number
}

/**
 * Copies a whole disk into a sink of at least its size, then flushes. What is zero in the source is zeroed, not written. Reads ahead,
 * one write at a time. The caller disposes both.
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
  for await (const { offset, data } of dataChunks(source, { offset: 0, length: source.size }, UNIT, options)) {
    if (offset > done) await sink.zero({ offset: done, length: offset - done }, options)
    await sink.write(offset, data, options)
    done = rangeEnd({ offset, length: data.length })
    written += data.length
    options.onProgress?.({ doneBytes: done, writtenBytes: written })
  }
  if (sink.size > done) await sink.zero({ offset: done, length: sink.size - done }, options)
  await sink.flush(options)
  options.onProgress?.({ doneBytes: source.size, writtenBytes: written })
}
