import { type Evidence, fileSystem, refused } from './evidence.ts'
import { label, uuid } from './part.ts'
import type { VolumeContent } from './volume.ts'

const SUPERBLOCK_AT = 1024
const MAGIC = 0xef53
const VALID = 1
const ERRORS = 2
const HAS_JOURNAL = 0x4
const RECOVER = 0x4
const JOURNAL_DEVICE = 0x8
/** What ext3 knows; anything beyond makes it ext4 (as blkid judges). */
const EXT3_INCOMPAT = 0x2 | RECOVER | 0x10
const EXT3_RO_COMPAT = 0x1 | 0x2 | 0x4

/** ext2, ext3 and ext4 (docs/formats/file-systems.md). */
export function recogniseExt({ head }: Evidence): VolumeContent | undefined {
  const block = head.subarray(SUPERBLOCK_AT, SUPERBLOCK_AT + 1024)
  if (block.readUInt16LE(56) !== MAGIC || block.readUInt32LE(0) === 0) return undefined
  const [compat, incompat, roCompat] = block.readUInt32LE(76) === 0 ? [0, 0, 0] : [92, 96, 100].map((at) => block.readUInt32LE(at))
  const has = (flags: number | undefined, bit: number): boolean => ((flags ?? 0) & bit) !== 0
  if (has(incompat, JOURNAL_DEVICE)) return { kind: 'none', what: 'journal of an ext file system' }
  const journal = has(compat, HAS_JOURNAL)
  if (journal && block.readUInt32LE(224) === 0) {
    return refused(
      'ext with a journal elsewhere',
      'Its journal is on another device, which is not put together here; restore the disks to read it.',
    )
  }
  const beyond = has(incompat, ~EXT3_INCOMPAT) || has(roCompat, ~EXT3_RO_COMPAT)
  const state = block.readUInt16LE(58)
  return fileSystem(beyond ? 'ext4' : journal ? 'ext3' : 'ext2', {
    uuid: uuid(block.subarray(104)),
    label: label(block.subarray(120, 136)),
    dirty: journal ? has(incompat, RECOVER) : (state & VALID) === 0,
    note: (state & ERRORS) === 0 ? undefined : 'The guest had found errors in this file system.',
  })
}
