import { SECTOR } from '../core/index.ts'
import { corrupt } from './corrupt.ts'
import type { ForwardBytes } from './forward-bytes.ts'
import { ENTRIES_PER_TABLE, type HostedSparseHeader } from './hosted-sparse-header.ts'

const TABLE_SECTORS = (ENTRIES_PER_TABLE * 4) / SECTOR

/**
 * Proves that every grain a streamOptimized file's tables name was met in the stream, by count and by the sum of positions, without
 * keeping either list.
 */
export class StreamTally {
  #grains = 0
  #grainSum = 0
  #entries = 0
  #entrySum = 0

  met(sector: number): void {
    this.#grains++
    this.#grainSum += sector
  }

  named(table: Uint8Array): void {
    const view = new DataView(table.buffer, table.byteOffset, table.byteLength)
    for (let at = 0; at + 4 <= table.length; at += 4) {
      const sector = view.getUint32(at, true)
      // 1 is the mark of a zero grain; there is nothing stored for it.
      if (sector <= 1) continue
      this.#entries++
      this.#entrySum += sector
    }
  }

  check(name: string): void {
    if (this.#grains === this.#entries && this.#grainSum === this.#entrySum) return
    throw corrupt(name, `holds ${this.#grains} grains where its tables name ${this.#entries}`)
  }
}

/**
 * Reads directory and tables that stand before the grains (qemu, open-vmdk), as the stream passes them; leaves it at the first grain.
 * Only the primary directory is kept: 4 bytes for each 32 MiB of disk.
 */
export async function tallyTablesUpFront(
  stream: ForwardBytes,
  header: HostedSparseHeader,
  directory: number,
  tally: StreamTally,
): Promise<void> {
  const { name } = stream
  if (directory < stream.position || directory + header.tables * 4 > header.overhead)
    throw corrupt(name, 'has its grain directory in a wrong place')
  await stream.skip(directory - stream.position)
  const raw = await stream.take(header.tables * 4)
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  for (let table = 0; table < header.tables; table++) {
    const position = view.getUint32(table * 4, true) * SECTOR
    if (position === 0) continue
    if (position < stream.position || position + TABLE_SECTORS * SECTOR > header.overhead) {
      throw corrupt(name, 'has grain tables in an order that cannot be read forward only')
    }
    await stream.skip(position - stream.position)
    tally.named(await stream.take(TABLE_SECTORS * SECTOR))
  }
  await stream.skip(header.overhead - stream.position)
}
