import { SECTOR, writeU64 } from '../../core/index.ts'

/* streamOptimized VMDK: KDMV header version 3, compressed grains with markers, tables and footer at the end. All little-endian. */
export const STREAM_MAGIC = 0x564d444b
export const STREAM_FLAGS = 0x30001
export const GRAIN_SECTORS = 128
export const GRAIN_BYTES = GRAIN_SECTORS * SECTOR
export const TABLE_ENTRIES = 512
export const AT_END = 0xffffffffffffffffn
export const MARKER = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3, progress: 4 } as const
export const DESCRIPTOR_SECTOR = 1
export const DESCRIPTOR_SECTORS = 20
export const OVERHEAD_SECTORS = 128

/** Header, and as footer with the true directory. */
export function streamHeader(capacitySectors: number, directory: number | undefined): Buffer {
  const header = Buffer.alloc(SECTOR)
  header.writeUInt32LE(STREAM_MAGIC, 0)
  header.writeUInt32LE(3, 4)
  header.writeUInt32LE(STREAM_FLAGS, 8)
  writeU64(header, 12, capacitySectors)
  writeU64(header, 20, GRAIN_SECTORS)
  writeU64(header, 28, DESCRIPTOR_SECTOR)
  writeU64(header, 36, DESCRIPTOR_SECTORS)
  header.writeUInt32LE(TABLE_ENTRIES, 44)
  header.writeBigUInt64LE(directory === undefined ? AT_END : BigInt(directory), 56)
  writeU64(header, 64, OVERHEAD_SECTORS)
  header.write('\n \r\n', 73, 'latin1')
  header.writeUInt16LE(1, 77)
  return header
}

export function streamMarker(sectors: number, type: number): Buffer {
  const marker = Buffer.alloc(SECTOR)
  writeU64(marker, 0, sectors)
  marker.writeUInt32LE(type, 12)
  return marker
}
