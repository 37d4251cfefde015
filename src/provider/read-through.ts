import { type Abortable, type BlockSource, MIB, rangeEnd } from '../core/index.ts'

/** Reads all data of a disk for the sake of the verification that comes with reading. */
export async function readThrough(disk: BlockSource, options: Abortable): Promise<void> {
  const buffer = Buffer.alloc(MIB)
  for await (const extent of disk.extents({ offset: 0, length: disk.size }, options)) {
    if (extent.kind === 'zero') continue
    for (let at = extent.offset; at < rangeEnd(extent); at += buffer.length) {
      await disk.read(at, buffer.subarray(0, Math.min(buffer.length, rangeEnd(extent) - at)), options)
    }
  }
}
