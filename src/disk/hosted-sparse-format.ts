import { SECTOR, writeU64 } from '../core/index.ts'
import { ENTRIES_PER_TABLE, KDMV_FLAGS, KDMV_MAGIC } from './hosted-sparse-header.ts'

/** Grain of everything written here: 64 KiB, as VMware's tools and qemu use. */
export const GRAIN_BYTES = 65_536

/** Values in sectors. */
export type HostedSparseLayout = {
  readonly capacity: number
  readonly descriptor?: { readonly offset: number; readonly size: number } | undefined
  /** Undefined = at the end, see the footer. */
  readonly directory: number | undefined
  readonly redundantDirectory: number
  readonly overhead: number
}

/** The 512-byte header of a split disk's piece (version 1, redundant tables) or of a streamOptimized file (version 3, markers). */
export function formatHostedSparseHeader(kind: 'sparse' | 'streamOptimized', layout: HostedSparseLayout): Uint8Array {
  const stream = kind === 'streamOptimized'
  const sector = new Uint8Array(SECTOR)
  const view = new DataView(sector.buffer)
  view.setUint32(0, KDMV_MAGIC, true)
  view.setUint32(4, stream ? 3 : 1, true)
  const flags = stream ? KDMV_FLAGS.compressed | KDMV_FLAGS.markers : KDMV_FLAGS.redundant
  view.setUint32(8, KDMV_FLAGS.newlineTest | flags, true)
  writeU64(sector, 12, layout.capacity)
  writeU64(sector, 20, GRAIN_BYTES / SECTOR)
  writeU64(sector, 28, layout.descriptor?.offset ?? 0)
  writeU64(sector, 36, layout.descriptor?.size ?? 0)
  view.setUint32(44, ENTRIES_PER_TABLE, true)
  writeU64(sector, 48, layout.redundantDirectory)
  if (layout.directory === undefined) view.setBigUint64(56, 0xffffffffffffffffn, true)
  else writeU64(sector, 56, layout.directory)
  writeU64(sector, 64, layout.overhead)
  view.setUint32(73, 0x0a200d0a, false)
  view.setUint16(77, stream ? 1 : 0, true)
  return sector
}
