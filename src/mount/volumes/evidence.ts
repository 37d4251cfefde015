import { type Abortable, type BlockSource, KIB } from '../../core/index.ts'
import { readPart } from './part.ts'
import type { FileSystemType, VolumeContent } from './volume.ts'

/** What the recognisers look at: the beginning of a volume, read once, and whatever else of it they ask for. */
export type Evidence = {
  /** Bytes of the volume. */
  readonly size: number
  /** The first 72 KiB; zeros where the volume is shorter, which match no magic. */
  readonly head: Buffer
  /** Undefined outside the volume. Bounded by the asker: at most 128 KiB at once. */
  readonly part: (offset: number, length: number) => Promise<Buffer | undefined>
}

export type Recogniser = (evidence: Evidence) => VolumeContent | undefined | Promise<VolumeContent | undefined>

const HEAD = 72 * KIB

export async function collectEvidence(source: BlockSource, options?: Abortable): Promise<Evidence> {
  const head = Buffer.alloc(HEAD)
  await source.read(0, head.subarray(0, Math.min(HEAD, source.size)), options)
  return { size: source.size, head, part: (offset, length) => readPart(source, offset, length, options) }
}

type Facts = {
  readonly uuid: string | undefined
  readonly label: string | undefined
  readonly dirty: boolean
  readonly note?: string | undefined
}

export const fileSystem = (type: FileSystemType, facts: Facts): VolumeContent => ({
  kind: 'file-system',
  type,
  uuid: facts.uuid,
  label: facts.label,
  dirty: facts.dirty,
  note: facts.note,
})

export const refused = (what: string, reason: string): VolumeContent => ({ kind: 'refused', what, reason })
