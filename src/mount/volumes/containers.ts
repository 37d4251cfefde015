import { KIB, SECTOR } from '../../core/index.ts'
import { type Evidence, refused } from './evidence.ts'
import { text } from './part.ts'
import type { VolumeContent } from './volume.ts'

const MD_MAGIC = 0xa92b4efc

/** What encloses or joins other volumes, so must be known before the file system that may shine through (docs/formats/file-systems.md). */
export async function recogniseContainer(evidence: Evidence): Promise<VolumeContent | undefined> {
  return (
    recogniseEncrypted(evidence.head) ??
    recogniseReFs(evidence.head) ??
    recognisePhysicalVolume(evidence.head) ??
    (await recogniseMd(evidence))
  )
}

/** Where the label of an LVM physical volume is: bytes; undefined where there is none. It is in one of the first four sectors. */
export function labelOfPhysicalVolume(head: Buffer): number | undefined {
  return [0, 1, 2, 3]
    .map((sector) => sector * SECTOR)
    .find((at) => head.toString('latin1', at, at + 8) === 'LABELONE' && head.toString('latin1', at + 24, at + 32) === 'LVM2 001')
}

function recognisePhysicalVolume(head: Buffer): VolumeContent | undefined {
  return labelOfPhysicalVolume(head) === undefined ? undefined : { kind: 'none', what: 'LVM physical volume' }
}

function recogniseEncrypted(head: Buffer): VolumeContent | undefined {
  if (head.toString('latin1', 0, 6) === 'LUKS\xba\xbe') {
    const version = head.readUInt16BE(6)
    return refused(
      `LUKS${version}`,
      `It is encrypted with LUKS${version} (${text(head.subarray(168, 208))}), and vcb holds no key; open the image file with cryptsetup, or restore the disk.`,
    )
  }
  const toGo = head.toString('latin1', 3, 11) === 'MSWIN4.1' && head.toString('hex', 424, 440) === '3bd66749292ed84a8399f6a339e3d001'
  if (head.toString('latin1', 3, 11) !== '-FVE-FS-' && !toGo) return undefined
  return refused(
    'BitLocker',
    'It is encrypted with BitLocker, and vcb holds no key; open the image file with cryptsetup or dislocker, or restore the disk.',
  )
}

function recogniseReFs(head: Buffer): VolumeContent | undefined {
  if (head.toString('latin1', 3, 11) !== 'ReFS\0\0\0\0' || head.toString('latin1', 16, 20) !== 'FSRS') return undefined
  return refused('ReFS', 'ReFS is read by Windows alone; restore the disk and attach it to a Windows machine.')
}

/** Superblocks of Linux' software RAID: 1.1 at the beginning, 1.2 at 4 KiB, 1.0 and 0.90 near the end. */
async function recogniseMd({ head, size, part }: Evidence): Promise<VolumeContent | undefined> {
  const sectors = Math.floor(size / SECTOR)
  const ends = [(Math.floor(sectors / 8) * 8 - 16) * SECTOR, (Math.floor(sectors / 128) - 1) * 128 * SECTOR]
  const tails = await Promise.all(ends.map((at) => part(at, 4 * KIB)))
  const [v10, v090] = tails
  for (const block of [head.subarray(0, 4 * KIB), head.subarray(4 * KIB, 8 * KIB), v10]) {
    if (block?.readUInt32LE(0) === MD_MAGIC && block.readUInt32LE(4) === 1) return md(block.readInt32LE(72), text(block.subarray(32, 64)))
  }
  if (v090 === undefined) return undefined
  if (v090.readUInt32LE(0) === MD_MAGIC) return md(v090.readInt32LE(28), '')
  return v090.readUInt32BE(0) === MD_MAGIC ? md(v090.readInt32BE(28), '') : undefined
}

function md(level: number, name: string): VolumeContent {
  const kind = level === -1 ? 'linear' : `raid${level}`
  const which = name === '' ? '' : ` "${name.replace(/[^\x20-\x7e]/g, '?')}"`
  return refused(
    'md-RAID',
    `It is a member of the software RAID${which} (${kind}), which is not put together here; assemble the image files with mdadm, or restore the disks.`,
  )
}
