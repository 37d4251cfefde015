import { type Abortable, type BlockSink, type BlockSource, isAgentError, isZero, MIB, sharedMemory, throwIfAborted } from '../core/index.ts'
import { dataChunks } from './data-chunks.ts'

/** Zeros of this length at a multiple of it are left out. Bytes. */
const GRAIN = 65_536
/** The largest chunk, and how many of them are being written at once. Bytes. */
const LARGEST = MIB
const IN_FLIGHT = 8

export type Filled = {
  /** Bytes of the disk decided: everything before is in the sink. The size of the disk when the source has ended. */
  readonly end: number
  /** Bytes written. */
  readonly written: number
}

/**
 * Writes what `source` holds from `from` on into a sink that reads as zeros there; zeros are not written. Several writes are under way at once, which never
 * overlap. Ends early, at the end of a chunk, once `limit` bytes were written. Everything written has ended when it returns or throws; nothing is
 * flushed. Errors of either side pass through. The caller disposes both.
 */
export async function fillDisk(
  source: BlockSource,
  sink: BlockSink,
  from: number,
  options: Abortable & { readonly limit?: number | undefined; readonly onProgress?: ((at: Filled) => void) | undefined } = {},
): Promise<Filled> {
  const { limit = Number.POSITIVE_INFINITY, onProgress, signal } = options
  const free: Buffer[] = []
  const underWay = new Set<Promise<unknown>>()
  const failures: unknown[] = []
  let written = 0
  const start = (offset: number, data: Uint8Array): void => {
    // The chunk's memory is its reader's again with the next one.
    const own = free.pop() ?? Buffer.allocUnsafeSlow(LARGEST)
    own.set(data)
    const write = async (): Promise<void> => {
      try {
        const bytes = await writeRuns(sink, offset, own.subarray(0, data.length), { signal })
        written += bytes
      } catch (error) {
        failures.push(error)
      } finally {
        free.push(own)
      }
    }
    const writing = write().finally(() => underWay.delete(writing))
    underWay.add(writing)
  }
  let end = from
  let whole = true
  try {
    const left = { offset: from, length: source.size - from }
    for await (const { offset, data } of dataChunks(source, left, GRAIN, { signal }, sharedMemory)) {
      start(offset, data)
      end = offset + data.length
      while (underWay.size >= IN_FLIGHT) await Promise.race(underWay)
      if (failures.length > 0) break
      onProgress?.({ end, written })
      if (written < limit) continue
      whole = end >= source.size
      break
    }
  } finally {
    await Promise.all(underWay)
  }
  throwIfAborted(options)
  // When a connection breaks, every write under way fails; the one that says more is the cause.
  if (failures.length > 0) throw failures.find((error) => !isAgentError(error, 'UNAVAILABLE')) ?? failures[0]
  return { end: whole ? source.size : end, written }
}

/** Writes the grains of a chunk that are not zero, joined where they touch; how many bytes. */
async function writeRuns(sink: BlockSink, offset: number, chunk: Uint8Array, options: Abortable): Promise<number> {
  let written = 0
  for (let at = 0; at < chunk.length; ) {
    if (isZero(chunk.subarray(at, at + GRAIN))) {
      at += GRAIN
      continue
    }
    let end = at + GRAIN
    while (end < chunk.length && !isZero(chunk.subarray(end, end + GRAIN))) end += GRAIN
    const run = chunk.subarray(at, end)
    await sink.write(offset + at, run, options)
    written += run.length
    at = end + GRAIN
  }
  return written
}
