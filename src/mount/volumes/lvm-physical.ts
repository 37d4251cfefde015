import { crc32 } from 'node:zlib'
import { type Abortable, type BlockSource, MIB, SECTOR } from '../../core/index.ts'
import { labelOfPhysicalVolume } from './containers.ts'
import { readPart, u64 } from './part.ts'

/** One LVM physical volume (docs/formats/lvm.md). */
export type PhysicalVolume = {
  /** 32 characters without dashes. */
  readonly id: string
  readonly source: BlockSource
  /** Text metadata of its areas, whole by their checksums; a volume of a larger group may hold none. */
  readonly texts: readonly string[]
}

const MAGIC = '\x20LVM2\x20x[5A%r0N*>'
const HEADER = 512
const MOST_AREAS = 16
const LARGEST_TEXT = 8 * MIB
const IGNORED = 1

/** Undefined when the label or its checksum is wrong. Reads the label and each metadata area's current text. Errors: those of the source. */
export async function readPhysicalVolume(source: BlockSource, options?: Abortable): Promise<PhysicalVolume | undefined> {
  const head = await readPart(source, 0, Math.min(source.size, 4 * SECTOR), options)
  if (head === undefined || head.length < 4 * SECTOR) return undefined
  const at = labelOfPhysicalVolume(head)
  if (at === undefined) return undefined
  const label = head.subarray(at, at + SECTOR)
  const headerAt = label.readUInt32LE(20)
  if (lvmCrc(label.subarray(20)) !== label.readUInt32LE(16) || headerAt < 32 || headerAt + 40 > SECTOR) return undefined
  const texts: string[] = []
  for (const area of metadataAreas(label, headerAt + 40)) {
    const text = await readText(source, area, options)
    if (text !== undefined) texts.push(text)
  }
  return { id: label.toString('latin1', headerAt, headerAt + 32), source, texts }
}

type Area = { readonly offset: number; readonly length: number }

/** Two lists, each ended by an empty entry: where data is, then where metadata is. */
function metadataAreas(label: Buffer, from: number): Area[] {
  const areas: Area[] = []
  let list = 0
  for (let at = from; list < 2 && at + 16 <= SECTOR; at += 16) {
    const [offset, length] = [u64(label, at), u64(label, at + 8)]
    if (offset === 0 && length === 0) list++
    else if (list === 1 && offset !== undefined && length !== undefined && areas.length < MOST_AREAS) areas.push({ offset, length })
  }
  return areas
}

/** The text is in a ring behind the area's header and may go on at the ring's beginning. */
async function readText(source: BlockSource, area: Area, options?: Abortable): Promise<string | undefined> {
  const header = await readPart(source, area.offset, HEADER, options)
  if (header?.toString('latin1', 4, 20) !== MAGIC || lvmCrc(header.subarray(4)) !== header.readUInt32LE(0)) return undefined
  const [start, size, offset, length] = [u64(header, 24), u64(header, 32), u64(header, 40), u64(header, 48)]
  if (start !== area.offset || size === undefined || offset === undefined || length === undefined) return undefined
  if ((header.readUInt32LE(60) & IGNORED) !== 0 || length === 0 || length > LARGEST_TEXT || offset < HEADER || offset >= size)
    return undefined
  const first = Math.min(length, size - offset)
  if (length - first > size - HEADER) return undefined
  const parts = [await readPart(source, area.offset + offset, first, options)]
  if (length > first) parts.push(await readPart(source, area.offset + HEADER, length - first, options))
  if (parts.includes(undefined)) return undefined
  const bytes = Buffer.concat(parts.filter((part) => part !== undefined))
  return lvmCrc(bytes) === header.readUInt32LE(56) ? bytes.toString('utf8').replace(/\0+$/, '') : undefined
}

const INITIAL = 0xf597a6cf

/** CRC-32 with LVM's own start and nothing turned round at the end. */
export const lvmCrc = (bytes: Buffer): number => ~crc32(bytes, ~INITIAL >>> 0) >>> 0
