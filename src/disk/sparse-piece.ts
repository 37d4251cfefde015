import type { FileHandle } from 'node:fs/promises'
import { type Abortable, type BlockSource, isZero, type Range, SECTOR } from '../core/index.ts'
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
  file: FileHandle,
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
      await writeAt(file, end, data.subarray(start, at))
      // The last grain of a disk may be short; it takes a whole grain in the file all the same.
      end += at - start
      options.onWritten?.(offset + Math.min(at, data.length), Math.min(at, data.length) - start)
    }
  }
  await file.truncate(end)
  for (const start of [redundant, directory]) {
    const positions = Uint32Array.from({ length: tables }, (_, table) => start + directorySectors + table * TABLE_SECTORS)
    await writeAt(file, start * SECTOR, padded(littleEndian(positions)))
    await writeAt(file, (start + directorySectors) * SECTOR, littleEndian(entries))
  }
  const layout = { capacity: range.length / SECTOR, directory, redundantDirectory: redundant, overhead }
  await writeAt(file, 0, formatHostedSparseHeader('sparse', layout))
  return end
}

async function writeAt(file: FileHandle, position: number, data: Uint8Array): Promise<void> {
  for (let done = 0; done < data.length; ) {
    done += (await file.write(data, done, data.length - done, position + done)).bytesWritten
  }
}
