import { crc32 } from 'node:zlib'
import { type Abortable, type BlockSource, MIB } from '../../core/index.ts'
import { guid, label, readPart, u64 } from './part.ts'

/** One used entry of a GUID partition table (docs/formats/partition-tables.md). Bytes. */
export type GptPartition = {
  readonly index: number
  /** Upper case. */
  readonly type: string
  /** Lower case. */
  readonly uuid: string
  readonly name: string | undefined
  readonly offset: number
  readonly length: number
}

export type Gpt = {
  readonly partitions: readonly GptPartition[]
  /** Bytes. 512; a disk imaged from one with sectors of 4096 keeps those. */
  readonly sectorBytes: number
  /** The first header or its entries were damaged, and the copy at the end of the disk was taken. */
  readonly fromBackup: boolean
}

const SECTOR_SIZES = [512, 4096]
const MIN_HEADER = 92
/** 128 entries of 128 bytes are usual: 16 KiB. */
const MAX_TABLE = MIB
const EMPTY = '00000000-0000-0000-0000-000000000000'

/**
 * Reads the GPT: the first header with its entries, or the copy at the end where one of the two checksums is wrong. Undefined when neither place holds a
 * header that is whole. `damaged` when a header is there and neither copy is whole. Errors: those of the disk.
 */
export async function readGpt(disk: BlockSource, options?: Abortable): Promise<Gpt | 'damaged' | undefined> {
  let seen = false
  for (const sectorBytes of SECTOR_SIZES) {
    const first = await readHeader(disk, 1, sectorBytes, options)
    if (first !== undefined) seen = true
    const found = await readCopy(disk, first, sectorBytes, options)
    if (found !== undefined) return { partitions: found, sectorBytes, fromBackup: false }
    const last = Math.floor(disk.size / sectorBytes) - 1
    const places = [first === undefined || first === 'damaged' ? undefined : first.alternate, last]
    for (const place of new Set(places)) {
      if (place === undefined || place <= 1) continue
      const header = await readHeader(disk, place, sectorBytes, options)
      if (header !== undefined) seen = true
      const copy = await readCopy(disk, header, sectorBytes, options)
      if (copy !== undefined) return { partitions: copy, sectorBytes, fromBackup: true }
    }
  }
  return seen ? 'damaged' : undefined
}

type Header = { readonly alternate: number; readonly table: number; readonly count: number; readonly size: number; readonly crc: number }

async function readHeader(
  disk: BlockSource,
  at: number,
  sectorBytes: number,
  options?: Abortable,
): Promise<Header | 'damaged' | undefined> {
  const sector = await readPart(disk, at * sectorBytes, sectorBytes, options)
  if (sector === undefined || sector.toString('latin1', 0, 8) !== 'EFI PART') return undefined
  const bytes = sector.readUInt32LE(12)
  if (bytes < MIN_HEADER || bytes > sectorBytes) return 'damaged'
  const summed = Buffer.from(sector.subarray(0, bytes))
  summed.writeUInt32LE(0, 16)
  const [own, alternate, table] = [u64(sector, 24), u64(sector, 32), u64(sector, 72)]
  if (crc32(summed) !== sector.readUInt32LE(16) || own !== at || alternate === undefined || table === undefined) return 'damaged'
  const [count, size] = [sector.readUInt32LE(80), sector.readUInt32LE(84)]
  if (size < 128 || size % 8 !== 0 || count === 0 || count * size > MAX_TABLE) return 'damaged'
  return { alternate, table, count, size, crc: sector.readUInt32LE(88) }
}

async function readCopy(
  disk: BlockSource,
  header: Header | 'damaged' | undefined,
  sectorBytes: number,
  options?: Abortable,
): Promise<readonly GptPartition[] | undefined> {
  if (header === undefined || header === 'damaged') return undefined
  const table = await readPart(disk, header.table * sectorBytes, header.count * header.size, options)
  if (table === undefined || crc32(table) !== header.crc) return undefined
  const found: GptPartition[] = []
  for (let index = 0; index < header.count; index++) {
    const entry = table.subarray(index * header.size, index * header.size + 128)
    const type = guid(entry)
    if (type === EMPTY) continue
    const [first, last] = [u64(entry, 32), u64(entry, 40)]
    // An entry that cannot be true is shown with no bytes, not left out: what was there is to be named as refused.
    const known = first !== undefined && last !== undefined && last >= first && Number.isSafeInteger((last + 1) * sectorBytes)
    found.push({
      index: index + 1,
      type: type.toUpperCase(),
      uuid: guid(entry.subarray(16)),
      name: label(entry.subarray(56, 128), 'utf16le'),
      offset: known ? first * sectorBytes : 0,
      length: known ? (last - first + 1) * sectorBytes : 0,
    })
  }
  return found
}
