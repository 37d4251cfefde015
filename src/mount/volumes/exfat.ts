import { type Evidence, fileSystem } from './evidence.ts'
import type { VolumeContent } from './volume.ts'

const VOLUME_LABEL = 0x83
const DIRTY = 2
const MOST_ROOT = 65_536

/** exFAT (docs/formats/file-systems.md). */
export async function recogniseExfat(evidence: Evidence): Promise<VolumeContent | undefined> {
  const { head } = evidence
  if (head.toString('latin1', 3, 11) !== 'EXFAT   ') return undefined
  const [sectorShift, clusterShift] = [head.readUInt8(108), head.readUInt8(109)]
  if (sectorShift < 9 || sectorShift > 12 || clusterShift > 25 - sectorShift) return undefined
  const cluster = 2 ** (sectorShift + clusterShift)
  const root = head.readUInt32LE(88) * 2 ** sectorShift + (head.readUInt32LE(96) - 2) * cluster
  const directory = await evidence.part(root, Math.min(cluster, MOST_ROOT))
  const serial = head.readUInt32LE(100).toString(16).toUpperCase().padStart(8, '0')
  return fileSystem('exfat', {
    uuid: `${serial.slice(0, 4)}-${serial.slice(4)}`,
    label: directory === undefined ? undefined : rootLabel(directory),
    dirty: (head.readUInt16LE(106) & DIRTY) !== 0,
  })
}

function rootLabel(directory: Buffer): string | undefined {
  for (let at = 0; at + 32 <= directory.length; at += 32) {
    const type = directory.readUInt8(at)
    if (type === 0) return undefined
    const length = directory.readUInt8(at + 1)
    if (type === VOLUME_LABEL && length > 0 && length <= 11) return directory.toString('utf16le', at + 2, at + 2 + length * 2)
  }
  return undefined
}
