import { readU64, SECTOR } from '../core/index.ts'
import { corrupt, notUnderstood } from './corrupt.ts'

/** "KDMV" as the little-endian number VMware's specification prints. */
export const KDMV_MAGIC = 0x564d444b
export const KDMV_FLAGS = {
  newlineTest: 0x1,
  redundant: 0x2,
  zeroGrains: 0x4,
  compressed: 0x10000,
  markers: 0x20000,
} as const
export const ENTRIES_PER_TABLE = 512
/** `gdOffset` of a file written forward only: the truth is in the footer. */
const AT_END = 0xffffffffffffffffn
/** 2^25 tables of 512 grains: 64 TiB at 4 KiB a grain. More would take for ever to list. */
const MAX_TABLES = 2 ** 25
const MAX_GRAIN_SECTORS = 4096

/** Header of a hosted sparse or streamOptimized extent (docs/formats/vmdk-hosted-sparse.md). All values in bytes. */
export type HostedSparseHeader = {
  readonly version: number
  readonly capacity: number
  readonly grainBytes: number
  readonly tables: number
  readonly descriptorOffset: number
  readonly descriptorBytes: number
  /** Undefined = at the end of the file, see the footer. */
  readonly directory: number | undefined
  readonly redundantDirectory: number | undefined
  readonly overhead: number
  readonly compressed: boolean
  readonly markers: boolean
  readonly zeroGrains: boolean
}

/** Reads the 512-byte header (or footer). Refuses what it does not understand. Errors: INTEGRITY. */
export function parseHostedSparseHeader(sector: Uint8Array, name: string): HostedSparseHeader {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength)
  if (view.getUint32(0, true) !== KDMV_MAGIC) throw corrupt(name, 'does not begin with KDMV, so it is no sparse VMDK')
  const version = view.getUint32(4, true)
  if (version < 1 || version > 3) throw notUnderstood(name, `has the sparse header version ${version}`)
  const flags = view.getUint32(8, true)
  const unknown = flags & 0xfffc0000
  if (unknown !== 0) throw notUnderstood(name, `has the flags 0x${flags.toString(16)}`)
  // A transfer that converts line ends as if the disk were text destroys these four bytes first.
  if ((flags & KDMV_FLAGS.newlineTest) !== 0 && view.getUint32(73, false) !== 0x0a200d0a) {
    throw corrupt(name, 'was damaged by a transfer in text mode')
  }
  const compression = view.getUint16(77, true)
  const compressed = (flags & KDMV_FLAGS.compressed) !== 0
  if (compression > 1 || compressed !== (compression === 1)) throw notUnderstood(name, `has the compression method ${compression}`)
  const markers = (flags & KDMV_FLAGS.markers) !== 0
  if (markers && !compressed) throw notUnderstood(name, 'has markers but no compressed grains')
  const capacitySectors = readU64(sector, 12, `capacity of ${name}`)
  const grainSectors = readU64(sector, 20, `grain size of ${name}`)
  if (grainSectors < 1 || grainSectors > MAX_GRAIN_SECTORS || !Number.isInteger(Math.log2(grainSectors))) {
    throw corrupt(name, `claims grains of ${grainSectors} sectors`)
  }
  const entries = view.getUint32(44, true)
  if (entries !== ENTRIES_PER_TABLE) throw notUnderstood(name, `has grain tables of ${entries} entries`)
  const tables = Math.ceil(capacitySectors / (ENTRIES_PER_TABLE * grainSectors))
  if (tables === 0 || tables > MAX_TABLES) throw corrupt(name, `claims a capacity of ${capacitySectors} sectors`)
  const position = (offset: number, what: string): number => {
    const sectors = readU64(sector, offset, `${what} of ${name}`)
    if (sectors > 2 ** 43) throw corrupt(name, `claims its ${what} at sector ${sectors}`)
    return sectors * SECTOR
  }
  const atEnd = view.getBigUint64(56, true) === AT_END
  const redundant = (flags & KDMV_FLAGS.redundant) !== 0
  const header: HostedSparseHeader = {
    version,
    capacity: capacitySectors * SECTOR,
    grainBytes: grainSectors * SECTOR,
    tables,
    descriptorOffset: position(28, 'descriptor'),
    descriptorBytes: position(36, 'descriptor size'),
    directory: atEnd ? undefined : position(56, 'grain directory'),
    redundantDirectory: redundant ? position(48, 'redundant grain directory') : undefined,
    overhead: position(64, 'overhead'),
    compressed,
    markers,
    zeroGrains: (flags & KDMV_FLAGS.zeroGrains) !== 0,
  }
  if (atEnd && !markers) throw corrupt(name, 'has no grain directory')
  if (header.directory === 0) throw corrupt(name, 'has no grain directory')
  return Object.freeze(header)
}
