import { AgentError, readU64, SECTOR } from '../core/index.ts'
import { type ByteSource, handOver } from './byte-source.ts'
import { corrupt, notUnderstood } from './corrupt.ts'
import { type GrainMap, type GrainTable, ZERO_GRAIN } from './grain-index.ts'
import { GrainLayer } from './grain-layer.ts'
import { PagedBytes } from './paged-bytes.ts'
import type { PlacedSource } from './place.ts'

export const SE_SPARSE_MAGIC = 0xcafebabe
const VOLATILE_MAGIC = 0xcafecafe
/** 2.1 */
const VERSION = 0x0000000200000001n
const GRAIN_BYTES = 8 * SECTOR
const TABLE_SECTORS = 64
const TABLE_BYTES = TABLE_SECTORS * SECTOR
const ENTRIES = TABLE_BYTES / 8
const TYPE_UNALLOCATED = 0
const TYPE_UNMAPPED = 1
const TYPE_ZERO = 2
const TYPE_ALLOCATED = 3

type Region = { readonly start: number; readonly length: number }
type SeSparseHeader = {
  readonly capacity: number
  readonly volatile: Region
  readonly directory: Region
  readonly tables: Region
  readonly grains: Region
}

/**
 * A seSparse redo log (`-sesparse.vmdk`) as a layer. Owns `bytes`, also when it fails. Errors: INTEGRITY, CONFLICT when its journal
 * still has to be replayed (the link a running VM writes). Layout: docs/formats/vmdk-se-sparse.md.
 */
export function openSeSparse(bytes: ByteSource): Promise<PlacedSource> {
  return handOver(bytes, async () => {
    const header = await readHeader(bytes)
    await checkVolatileHeader(bytes, header)
    return new GrainLayer(bytes, seSparseMap(bytes, header))
  })
}

async function readHeader(bytes: ByteSource): Promise<SeSparseHeader> {
  const { name } = bytes
  if (bytes.size < 2 * SECTOR) throw corrupt(name, `is only ${bytes.size} bytes long`)
  const raw = new Uint8Array(SECTOR)
  await bytes.read(0, raw)
  const view = new DataView(raw.buffer)
  const field = (index: number, what: string): number => readU64(raw, index * 8, `${what} of ${name}`)
  if (view.getBigUint64(0, true) !== BigInt(SE_SPARSE_MAGIC)) throw corrupt(name, 'does not begin with the seSparse magic number')
  const version = view.getBigUint64(8, true)
  if (version !== VERSION) throw notUnderstood(name, `has the seSparse version ${version >> 32n}.${version & 0xffffffffn}`)
  const capacity = field(2, 'capacity') * SECTOR
  if (capacity === 0 || capacity > 2 ** 47) throw corrupt(name, `claims a capacity of ${capacity} bytes`)
  if (field(3, 'grain size') * SECTOR !== GRAIN_BYTES) throw notUnderstood(name, `has seSparse grains of ${field(3, 'grain size')} sectors`)
  if (field(4, 'table size') !== TABLE_SECTORS) throw notUnderstood(name, `has seSparse tables of ${field(4, 'table size')} sectors`)
  if (view.getBigUint64(40, true) !== 0n) throw notUnderstood(name, 'has seSparse flags set')
  if (raw.subarray(26 * 8).some((byte) => byte !== 0)) throw corrupt(name, 'has a header with garbage behind its fields')
  const region = (index: number, what: string): Region => {
    const start = field(index, what)
    const length = field(index + 1, `${what} length`)
    if (start > 2 ** 43 || length > 2 ** 43) throw corrupt(name, `claims its ${what} at sector ${start}`)
    return { start: start * SECTOR, length: length * SECTOR }
  }
  const header: SeSparseHeader = {
    capacity,
    volatile: region(10, 'volatile header'),
    directory: region(16, 'grain directory'),
    tables: region(18, 'grain tables'),
    grains: region(24, 'grains'),
  }
  const needed = Math.ceil(capacity / (GRAIN_BYTES * ENTRIES))
  if (header.directory.length < needed * 8) throw corrupt(name, `has a grain directory too small for ${capacity} bytes`)
  if (header.directory.start + needed * 8 > bytes.size) throw corrupt(name, 'has its grain directory outside the file')
  return header
}

async function checkVolatileHeader(bytes: ByteSource, header: SeSparseHeader): Promise<void> {
  const { name } = bytes
  if (header.volatile.start + SECTOR > bytes.size) throw corrupt(name, 'has its volatile header outside the file')
  const raw = new Uint8Array(SECTOR)
  await bytes.read(header.volatile.start, raw)
  const view = new DataView(raw.buffer)
  if (view.getBigUint64(0, true) !== BigInt(VOLATILE_MAGIC)) throw corrupt(name, 'has a damaged volatile header')
  if (view.getBigUint64(24, true) !== 0n) {
    throw new AgentError('CONFLICT', `The seSparse file ${name} is dirty: its journal has not been replayed.`, {
      subject: name,
      next: 'It is the link a running VM writes, or the host crashed; read a snapshot of the VM instead, or power the VM on once.',
      retry: 'never',
    })
  }
}

function seSparseMap(bytes: ByteSource, header: SeSparseHeader): GrainMap {
  const { name, size } = bytes
  const tables = Math.ceil(header.capacity / (GRAIN_BYTES * ENTRIES))
  const pages = new PagedBytes(bytes, header.directory.start, tables * 8)
  return {
    size: header.capacity,
    grainBytes: GRAIN_BYTES,
    grainsPerTable: ENTRIES,
    async tablePosition(table: number): Promise<number> {
      const { view, at } = await pages.view(table * 8)
      const low = view.getUint32(at, true)
      const high = view.getUint32(at + 4, true)
      if (low === 0 && high === 0) return 0
      // Tag 1, then a running number: tables lie in the order of first use, not by position.
      if (high !== 0x10000000) throw corrupt(name, `has a wrong directory entry for grain table ${table}`)
      const within = low * TABLE_BYTES
      const position = header.tables.start + within
      if (within + TABLE_BYTES > header.tables.length || position + TABLE_BYTES > size) {
        throw corrupt(name, `has grain table ${table} outside the file`)
      }
      return position
    },
    async readTable(table: number, position: number): Promise<GrainTable> {
      const raw = new Uint8Array(TABLE_BYTES)
      await bytes.read(position, raw)
      const view = new DataView(raw.buffer)
      // Starts out as ABSENT_GRAIN everywhere.
      const grains = new Float64Array(ENTRIES)
      for (let index = 0; index < ENTRIES; index++) {
        const low = view.getUint32(index * 8, true)
        const high = view.getUint32(index * 8 + 4, true)
        if (low === 0 && high === 0) continue
        const grain = table * ENTRIES + index
        const start = grain * GRAIN_BYTES
        if (start >= header.capacity) continue
        grains[index] = judge(high, low, grain, Math.min(GRAIN_BYTES, header.capacity - start))
      }
      return grains
    },
  }

  function judge(high: number, low: number, grain: number, needed: number): number {
    switch (high >>> 28) {
      case TYPE_UNMAPPED:
      case TYPE_ZERO:
        return ZERO_GRAIN
      case TYPE_ALLOCATED: {
        // The index is stored rotated: its low 12 bits are bits 48..59 of the entry, the rest bits 0..47.
        const index = ((high >>> 16) & 0xfff) + ((high & 0xffff) * 2 ** 32 + low) * 4096
        const within = index * GRAIN_BYTES
        const position = header.grains.start + within
        if (position <= 0 || within + needed > header.grains.length || position + needed > size) {
          throw corrupt(name, `has grain ${grain} outside the file`)
        }
        return position
      }
      case TYPE_UNALLOCATED:
        throw corrupt(name, `has a damaged table entry for grain ${grain}`)
      default:
        throw notUnderstood(name, `has a table entry of type ${high >>> 28} for grain ${grain}`)
    }
  }
}
