import { type Abortable, type BlockSource, isZero, type OutputFile, type Range, SECTOR } from '../core/index.ts'
import { dataChunks } from './data-chunks.ts'
import { formatHostedSparseHeader, GRAIN_BYTES } from './hosted-sparse-format.ts'
import { ENTRIES_PER_TABLE } from './hosted-sparse-header.ts'
import { littleEndian, padded } from './stream-writer.ts'

/** Bytes of disk in one piece: 2047 MiB, VMware's choice, so that a full piece with its tables stays below 2 GiB. */
export const PIECE_BYTES = 4_192_256 * SECTOR

const TABLE_SECTORS = (ENTRIES_PER_TABLE * 4) / SECTOR

/**
 * Writes the part `range` of a disk (at most `PIECE_BYTES`) as one hosted sparse extent into an empty file: grains in order, tables in
 * memory (128 KiB) and last of all, header included, so that a cut file is no VMDK. Returns the file's bytes. Does not sync.
 */
export async function writeSparsePiece(
  source: BlockSource,
  range: Range,
  file: OutputFile,
  options: Abortable & { readonly onWritten?: ((end: number, bytes: number) => void) | undefined } = {},
): Promise<number> {
  const tables = Math.ceil(range.length / (GRAIN_BYTES * ENTRIES_PER_TABLE))
  const directorySectors = Math.ceil((tables * 4) / SECTOR)
  const copySectors = directorySectors + tables * TABLE_SECTORS
  const redundant = 1
  const directory = redundant + copySectors
  const overhead = Math.ceil(((directory + copySectors) * SECTOR) / GRAIN_BYTES) * (GRAIN_BYTES / SECTOR)
  const entries = new Uint32Array(tables * ENTRIES_PER_TABLE)
  let end = overhead * SECTOR

  for await (const { offset, data } of dataChunks(source, range, GRAIN_BYTES, options)) {
    for (let at = 0; at < data.length; ) {
      const start = at
      const zero = isZero(data.subarray(at, at + GRAIN_BYTES))
      do {
        if (!zero) entries[(offset - range.offset + at) / GRAIN_BYTES] = (end + at - start) / SECTOR
        at += GRAIN_BYTES
      } while (at < data.length && isZero(data.subarray(at, at + GRAIN_BYTES)) === zero)
      if (zero) continue
      await file.write(data.subarray(start, at), end)
      // The last grain of a disk may be short; it takes a whole grain in the file all the same.
      end += at - start
      options.onWritten?.(offset + Math.min(at, data.length), Math.min(at, data.length) - start)
    }
  }
  await file.truncate(end)
  for (const start of [redundant, directory]) {
    const positions = Uint32Array.from({ length: tables }, (_, table) => start + directorySectors + table * TABLE_SECTORS)
    await file.write(padded(littleEndian(positions)), start * SECTOR)
    await file.write(littleEndian(entries), (start + directorySectors) * SECTOR)
  }
  const layout = { capacity: range.length / SECTOR, directory, redundantDirectory: redundant, overhead }
  await file.write(formatHostedSparseHeader('sparse', layout), 0)
  return end
}
