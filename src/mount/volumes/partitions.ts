import { type Abortable, type BlockSource, SECTOR } from '../../core/index.ts'
import { readGpt } from './gpt.ts'
import { hexType, readMbr } from './mbr.ts'
import { readPart } from './part.ts'
import type { VolumePartition } from './volume.ts'

export type FoundPartition = Omit<VolumePartition, 'disk'> & {
  readonly length: number
  /** Why its bytes are not used, where the table is wrong about it. */
  readonly wrong: string | undefined
}

export type PartitionTable = {
  readonly scheme: 'mbr' | 'gpt'
  /** In order of offset. */
  readonly partitions: readonly FoundPartition[]
  /** What was found wrong with the table itself: one half sentence each. */
  readonly damage: readonly string[]
}

/** More than this on one disk is rubbish: Windows ends at 128. */
const MOST_PARTITIONS = 256
/** Boot sectors of file systems end in the signature of an MBR too: `NTFS    `, `EXFAT   `, `-FVE-FS-` @3, and the type names of FAT. */
const BOOT_SECTORS = ['NTFS    ', 'EXFAT   ', '-FVE-FS-', 'ReFS\0\0\0\0']

/**
 * The partition table of a disk; undefined where there is none and the disk itself is the volume. A GPT counts when the MBR says so, or when sector 0 holds no
 * table at all. Reads at most a few hundred sectors. Errors: those of the disk.
 */
export async function readPartitions(disk: BlockSource, options?: Abortable): Promise<PartitionTable | undefined> {
  const sector = await readPart(disk, 0, SECTOR, options)
  if (sector === undefined || isBootSector(sector)) return undefined
  const mbr = await readMbr(disk, options)
  if (mbr !== undefined && !mbr.protective) {
    const found = mbr.partitions.map(
      (entry): FoundPartition => ({
        scheme: 'mbr',
        index: entry.index,
        type: hexType(entry.type),
        uuid: undefined,
        name: undefined,
        diskSignature: mbr.diskSignature,
        ...judged(disk, entry),
      }),
    )
    return table('mbr', found, mbr.broken === undefined ? [] : [mbr.broken])
  }
  if (mbr === undefined && !sector.every((byte) => byte === 0)) return undefined
  const gpt = await readGpt(disk, options)
  if (gpt === undefined || gpt === 'damaged') {
    const damage = gpt === undefined ? 'the disk says it has a GPT, but there is none' : 'both copies of the GPT are damaged'
    return mbr === undefined && gpt === undefined ? undefined : table('gpt', [], [damage])
  }
  const found = gpt.partitions.map(
    (entry): FoundPartition => ({
      scheme: 'gpt',
      index: entry.index,
      type: entry.type,
      uuid: entry.uuid,
      name: entry.name,
      diskSignature: undefined,
      ...judged(disk, entry),
    }),
  )
  return table('gpt', found, [])
}

function judged(
  disk: BlockSource,
  entry: { readonly offset: number; readonly length: number },
): Pick<FoundPartition, 'offset' | 'length' | 'wrong'> {
  const { offset, length } = entry
  if (length === 0) return { offset: 0, length: 0, wrong: 'the table gives it a place that cannot be' }
  if (offset + length <= disk.size) return { offset, length, wrong: undefined }
  const inside = Math.max(0, disk.size - offset)
  return { offset: Math.min(offset, disk.size), length: inside, wrong: 'the table lets it end behind the end of the disk' }
}

function table(scheme: 'mbr' | 'gpt', found: readonly FoundPartition[], damage: readonly string[]): PartitionTable {
  const ordered = found.toSorted((a, b) => a.offset - b.offset || a.index - b.index)
  const more = ordered.length > MOST_PARTITIONS ? [`it lists ${ordered.length} partitions, of which ${MOST_PARTITIONS} are shown`] : []
  return { scheme, partitions: ordered.slice(0, MOST_PARTITIONS), damage: [...damage, ...more] }
}

/** A jump instruction and the name of a file system. A disk of Windows without partitions, a floppy image. */
function isBootSector(sector: Buffer): boolean {
  if (BOOT_SECTORS.includes(sector.toString('latin1', 3, 11))) return true
  const jump = sector.readUInt8(0) === 0xeb || sector.readUInt8(0) === 0xe9
  return jump && (sector.toString('latin1', 54, 57) === 'FAT' || sector.toString('latin1', 82, 87) === 'FAT32')
}
