import type { Abortable, BlockSource } from '../../core/index.ts'
import { recogniseBtrfs } from './btrfs.ts'
import { recogniseContainer } from './containers.ts'
import { collectEvidence, type Recogniser } from './evidence.ts'
import { recogniseExfat } from './exfat.ts'
import { recogniseExt } from './ext.ts'
import { recogniseFat } from './fat.ts'
import { recogniseNtfs } from './ntfs.ts'
import { recogniseOptical } from './optical.ts'
import { recogniseOther } from './other-formats.ts'
import type { VolumeContent } from './volume.ts'
import { recogniseXfs } from './xfs.ts'

/** Containers first, for the file system of a RAID member or behind an old label may shine through. */
const RECOGNISERS: readonly Recogniser[] = [
  recogniseContainer,
  recogniseXfs,
  recogniseNtfs,
  recogniseExfat,
  recogniseExt,
  recogniseBtrfs,
  recogniseFat,
  recogniseOther,
  recogniseOptical,
]

/** What lies on a partition, logical volume or whole disk. A few hundred KiB are read. Errors: those of the source; what is damaged is told, not thrown. */
export async function identify(source: BlockSource, options?: Abortable): Promise<VolumeContent> {
  const evidence = await collectEvidence(source, options)
  for (const recognise of RECOGNISERS) {
    const found = await recognise(evidence)
    if (found !== undefined) return Object.freeze(found)
  }
  return Object.freeze({ kind: 'none', what: evidence.head.every((byte) => byte === 0) ? 'empty' : 'unknown' })
}
