import { type Evidence, fileSystem } from './evidence.ts'
import { readFatShape } from './fat-shape.ts'
import type { VolumeContent } from './volume.ts'

const VOLUME_ID = 0x08
const LONG_NAME = 0x0f
/** A label is among the first entries of the root directory, or there is none. */
const MOST_ROOT = 65_536

/** FAT12, FAT16 and FAT32 (docs/formats/file-systems.md). */
export async function recogniseFat(evidence: Evidence): Promise<VolumeContent | undefined> {
  const { head } = evidence
  const shape = readFatShape(head)
  if (shape === undefined) return undefined
  const root = shape.bits === 32 ? shape.data + (shape.rootCluster - 2) * shape.clusterBytes : shape.root
  if (root > evidence.size) return undefined
  const extended = shape.bits === 32 ? 64 : 36
  const signature = head.readUInt8(extended + 2)
  const serial =
    signature === 0x28 || signature === 0x29
      ? head
          .readUInt32LE(extended + 3)
          .toString(16)
          .toUpperCase()
          .padStart(8, '0')
      : undefined
  const bootLabel = signature === 0x29 ? oem(head.subarray(extended + 7, extended + 18)) : undefined
  const directory = await evidence.part(
    root,
    Math.min(shape.bits === 32 ? shape.clusterBytes : shape.rootBytes, MOST_ROOT, evidence.size - root),
  )
  const fat = await evidence.part(shape.fat, 8)
  return fileSystem('fat', {
    uuid: serial === undefined ? undefined : `${serial.slice(0, 4)}-${serial.slice(4)}`,
    label: (directory === undefined ? undefined : rootLabel(directory)) ?? (bootLabel === 'NO NAME' ? undefined : bootLabel),
    dirty: (head.readUInt8(extended + 1) & 1) !== 0 || (fat !== undefined && isMarkedInFat(fat, shape.bits)),
    note: shape.bits === 12 ? 'FAT12 has no mark for not having been unmounted, but the one of Linux.' : undefined,
  })
}

/** The second entry of the FAT: its highest bit but four (FAT32) or its highest (FAT16) is set when it was unmounted. */
const isMarkedInFat = (fat: Buffer, bits: 12 | 16 | 32): boolean =>
  bits === 32 ? (fat.readUInt32LE(4) & 0x0800_0000) === 0 : bits === 16 ? (fat.readUInt16LE(2) & 0x8000) === 0 : false

function rootLabel(directory: Buffer): string | undefined {
  for (let at = 0; at + 32 <= directory.length; at += 32) {
    const first = directory.readUInt8(at)
    if (first === 0) return undefined
    const attributes = directory.readUInt8(at + 11)
    if (first !== 0xe5 && (attributes & VOLUME_ID) !== 0 && attributes !== LONG_NAME) return oem(directory.subarray(at, at + 11))
  }
  return undefined
}

function oem(bytes: Buffer): string | undefined {
  const name = bytes.toString('latin1').trimEnd()
  return name === '' || name.includes('\0') ? undefined : name
}
