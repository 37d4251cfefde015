import { type Abortable, type BlockSource, SECTOR } from '../../core/index.ts'
import { readPart } from './part.ts'

/** One used entry of an MBR or of an extended boot record (docs/formats/partition-tables.md). Bytes. */
export type MbrPartition = { readonly index: number; readonly type: number; readonly offset: number; readonly length: number }

export type Mbr = {
  readonly diskSignature: number
  /** Primary ones, then logical ones from index 5; extended ones are no partitions of their own. */
  readonly partitions: readonly MbrPartition[]
  /** The disk says it holds a GPT. */
  readonly protective: boolean
  /** Set when the chain of logical partitions could not be followed to its end. */
  readonly broken: string | undefined
}

export const PROTECTIVE = 0xee
const EXTENDED = [0x05, 0x0f, 0x85]
const ENTRIES_AT = 446
/** Linux stops at 60 logical partitions; a chain that is longer is a loop or rubbish. */
const MOST_LOGICAL = 128

type Entry = { readonly boot: number; readonly type: number; readonly first: number; readonly sectors: number }

/**
 * Reads sector 0 and follows the chain of logical partitions. Undefined when sector 0 is no partition table: no signature, a boot indicator that is none, or
 * no entry in use. That a boot sector of FAT or NTFS is none either is the caller's to say. Errors: those of the disk.
 */
export async function readMbr(disk: BlockSource, options?: Abortable): Promise<Mbr | undefined> {
  const sector = await readPart(disk, 0, SECTOR, options)
  const entries = sector === undefined ? undefined : parseEntries(sector)
  if (sector === undefined || entries === undefined) return undefined
  if (entries.some((entry) => entry.boot !== 0 && entry.boot !== 0x80)) return undefined
  const used = entries.flatMap((entry, index) => (isUsed(entry) ? [{ ...entry, index: index + 1 }] : []))
  if (used.length === 0) return undefined
  const primary = used
    .filter((entry) => !EXTENDED.includes(entry.type) && entry.type !== PROTECTIVE)
    .map((entry) => ({ index: entry.index, type: entry.type, offset: entry.first * SECTOR, length: entry.sectors * SECTOR }))
  const logical: MbrPartition[] = []
  let broken: string | undefined
  for (const extended of used.filter((entry) => EXTENDED.includes(entry.type))) {
    broken = (await followChain(disk, extended, logical, options)) ?? broken
  }
  return {
    diskSignature: sector.readUInt32LE(440),
    partitions: [...primary, ...logical],
    protective: used.some((entry) => entry.type === PROTECTIVE),
    broken,
  }
}

/** Appends to `found`; the reason where the chain ends too early. */
async function followChain(disk: BlockSource, extended: Entry, found: MbrPartition[], options?: Abortable): Promise<string | undefined> {
  const visited = new Set<number>()
  let at = extended.first
  for (;;) {
    if (visited.has(at) || found.length >= MOST_LOGICAL) return `the chain of logical partitions does not end (sector ${at})`
    visited.add(at)
    const sector = await readPart(disk, at * SECTOR, SECTOR, options)
    const entries = sector === undefined ? undefined : parseEntries(sector)
    if (entries === undefined) return `there is no record of a logical partition at sector ${at}`
    const [own, next] = entries
    if (own !== undefined && isUsed(own) && !EXTENDED.includes(own.type)) {
      found.push({ index: 5 + found.length, type: own.type, offset: (at + own.first) * SECTOR, length: own.sectors * SECTOR })
    }
    if (next === undefined || !isUsed(next)) return undefined
    if (!EXTENDED.includes(next.type)) return `the record at sector ${at} leads to a partition of type ${hexType(next.type)}`
    at = extended.first + next.first
  }
}

/** Two hexadecimal digits, as every tool shows it. */
export const hexType = (type: number): string => type.toString(16).padStart(2, '0')

const isUsed = (entry: Entry): boolean => entry.type !== 0 && entry.sectors > 0

function parseEntries(sector: Buffer): readonly Entry[] | undefined {
  if (sector.readUInt16LE(510) !== 0xaa55) return undefined
  return [0, 1, 2, 3].map((index) => {
    const at = ENTRIES_AT + 16 * index
    return {
      boot: sector.readUInt8(at),
      type: sector.readUInt8(at + 4),
      first: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    }
  })
}
