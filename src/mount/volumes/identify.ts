import type { Abortable, BlockSource } from '../../core/index.ts'
import type { VolumeContent } from './volume.ts'
import { readPart } from './part.ts'

/** What lies on a partition, logical volume or whole disk. Errors: those of the source. */
export async function identify(source: BlockSource, options?: Abortable): Promise<VolumeContent> {
  const head = await readPart(source, 0, Math.min(source.size, 72 * 1024), options)
  const isEmpty = head === undefined || head.every((byte) => byte === 0)
  return { kind: 'none', what: isEmpty ? 'empty' : 'unknown' }
}
