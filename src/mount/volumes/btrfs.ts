import { type Evidence, fileSystem, refused } from './evidence.ts'
import { label, uuid } from './part.ts'
import type { VolumeContent } from './volume.ts'

const SUPERBLOCK_AT = 65_536

/** btrfs (docs/formats/file-systems.md). */
export function recogniseBtrfs({ head }: Evidence): VolumeContent | undefined {
  const block = head.subarray(SUPERBLOCK_AT, SUPERBLOCK_AT + 4096)
  if (block.toString('latin1', 64, 72) !== '_BHRfS_M') return undefined
  const devices = block.readBigUInt64LE(136)
  if (devices !== 1n) {
    return refused(
      'btrfs over several devices',
      `It is one of ${devices} devices of a btrfs file system, which are not put together here; restore the disks to read it.`,
    )
  }
  return fileSystem('btrfs', {
    uuid: uuid(block.subarray(32)),
    label: label(block.subarray(299, 555)),
    dirty: block.readBigUInt64LE(96) !== 0n,
  })
}
