import { readU64, SECTOR, writeU64 } from '../core/index.ts'

/** Kinds of metadata markers in a streamOptimized file; a marker with a size is a grain. */
export const MARKER = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3, progress: 4 } as const

export type StreamMarker = {
  /** Grain: its LBA. Otherwise the number of sectors that follow. */
  readonly value: number
  /** Compressed bytes of a grain; 0 = metadata. */
  readonly size: number
  readonly type: number
}

export function parseMarker(sector: Uint8Array, name: string): StreamMarker {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength)
  return { value: readU64(sector, 0, `marker in ${name}`), size: view.getUint32(8, true), type: view.getUint32(12, true) }
}

/** One sector: a metadata marker announcing `sectors` sectors. */
export function formatMarker(type: number, sectors: number): Uint8Array {
  const sector = new Uint8Array(SECTOR)
  writeU64(sector, 0, sectors)
  new DataView(sector.buffer).setUint32(12, type, true)
  return sector
}
