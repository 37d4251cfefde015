import { SECTOR } from '../core/index.ts'
import { type ByteSource, handOver } from './byte-source.ts'
import { corrupt, notUnderstood } from './corrupt.ts'
import { ABSENT_GRAIN, type GrainMap, type GrainTable, ZERO_GRAIN } from './grain-index.ts'
import { GrainLayer } from './grain-layer.ts'
import { PagedBytes } from './paged-bytes.ts'
import type { PlacedSource } from './place.ts'

/** "COWD", little-endian. */
export const COWD_MAGIC = 0x44574f43
const HEADER_BYTES = 4 * SECTOR
const ENTRIES = 4096
const TABLE_BYTES = ENTRIES * 4
const FLAG_INCONSISTENT = 4

/**
 * A COWD redo log (vmfsSparse, `-delta.vmdk`) as a layer. Owns `bytes`, also when it fails. Errors: INTEGRITY.
 * Layout: docs/formats/vmdk-cowd.md.
 */
export function openCowd(bytes: ByteSource): Promise<PlacedSource> {
  return handOver(bytes, async () => new GrainLayer(bytes, await readMap(bytes)))
}

async function readMap(bytes: ByteSource): Promise<GrainMap> {
  const { name } = bytes
  if (bytes.size < HEADER_BYTES) throw corrupt(name, `is only ${bytes.size} bytes long`)
  const raw = new Uint8Array(HEADER_BYTES)
  await bytes.read(0, raw)
  const view = new DataView(raw.buffer)
  const field = (offset: number): number => view.getUint32(offset, true)
  if (field(0) !== COWD_MAGIC) throw corrupt(name, 'does not begin with COWD, so it is no redo log')
  if (field(4) !== 1) throw notUnderstood(name, `has the COWD version ${field(4)}`)
  const flags = field(8)
  if ((flags & ~7) !== 0) throw notUnderstood(name, `has the COWD flags 0x${flags.toString(16)}`)
  if ((flags & FLAG_INCONSISTENT) !== 0) throw corrupt(name, 'is marked inconsistent by the host')
  const capacity = field(12) * SECTOR
  const grainSectors = field(16)
  if (grainSectors < 1 || grainSectors > 128 || !Number.isInteger(Math.log2(grainSectors))) {
    throw corrupt(name, `claims grains of ${grainSectors} sectors`)
  }
  const grainBytes = grainSectors * SECTOR
  const directory = field(20) * SECTOR
  const tables = Math.ceil(capacity / (ENTRIES * grainBytes))
  // Hosts round the number of entries up to a full sector of them.
  if (tables === 0 || field(24) < tables) throw corrupt(name, `has ${field(24)} directory entries where its capacity needs ${tables}`)
  if (directory < HEADER_BYTES || directory + tables * 4 > bytes.size) throw corrupt(name, 'has its grain directory outside the file')
  const first = directory + tables * 4
  const pages = new PagedBytes(bytes, directory, tables * 4)
  return {
    size: capacity,
    grainBytes,
    grainsPerTable: ENTRIES,
    async tablePosition(table: number): Promise<number> {
      const { view: page, at } = await pages.view(table * 4)
      const position = page.getUint32(at, true) * SECTOR
      if (position !== 0 && (position < first || position + TABLE_BYTES > bytes.size)) {
        throw corrupt(name, `has grain table ${table} outside the file`)
      }
      return position
    },
    async readTable(table: number, position: number): Promise<GrainTable> {
      const entries = new Uint8Array(TABLE_BYTES)
      await bytes.read(position, entries)
      const tableView = new DataView(entries.buffer)
      const grains = new Float64Array(ENTRIES)
      for (let index = 0; index < ENTRIES; index++) {
        const value = tableView.getUint32(index * 4, true)
        const start = (table * ENTRIES + index) * grainBytes
        if (value === 0 || start >= capacity) grains[index] = ABSENT_GRAIN
        // Sector 1 is part of the header and always empty: whoever writes it means "zero".
        else if (value === 1) grains[index] = ZERO_GRAIN
        else {
          grains[index] = value * SECTOR
          if (value * SECTOR < first || value * SECTOR + Math.min(grainBytes, capacity - start) > bytes.size) {
            throw corrupt(name, `has grain ${table * ENTRIES + index} outside the file`)
          }
        }
      }
      return grains
    },
  }
}
