import { type Evidence, fileSystem, refused } from './evidence.ts'
import { label, uuid } from './part.ts'
import type { VolumeContent } from './volume.ts'
import { isLogClean } from './xfs-log.ts'

/** XFS (docs/formats/file-systems.md); all fields big-endian. */
export async function recogniseXfs(evidence: Evidence): Promise<VolumeContent | undefined> {
  const { head } = evidence
  if (head.toString('latin1', 0, 4) !== 'XFSB') return undefined
  const blockBytes = head.readUInt32BE(4)
  const agBlocks = head.readUInt32BE(84)
  const agBlockLog = head.readUInt8(124)
  if (blockBytes < 512 || blockBytes > 65_536 || (blockBytes & (blockBytes - 1)) !== 0 || agBlocks === 0 || agBlockLog > 32)
    return undefined
  if (head.readBigUInt64BE(16) > 0n) {
    return refused(
      'XFS with a realtime device',
      'Part of its files are on another device, which is not put together here; restore the disks to read it.',
    )
  }
  const logStart = head.readBigUInt64BE(48)
  if (logStart === 0n) {
    return refused(
      'XFS with a log elsewhere',
      'Its log is on another device, which is not put together here; restore the disks to read it.',
    )
  }
  const group = logStart >> BigInt(agBlockLog)
  const inside = logStart & ((1n << BigInt(agBlockLog)) - 1n)
  const offset = (group * BigInt(agBlocks) + inside) * BigInt(blockBytes)
  const clean = await isLogClean(evidence, { offset: Number(offset), length: head.readUInt32BE(96) * blockBytes })
  return fileSystem('xfs', {
    uuid: uuid(head.subarray(32)),
    label: label(head.subarray(108, 120)),
    dirty: clean !== true,
    note: clean === undefined ? 'Its log could not be read; it is taken for one that must be replayed.' : undefined,
  })
}
