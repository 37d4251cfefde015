import { SECTOR } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import { corrupt } from './corrupt.ts'
import { ABSENT_GRAIN, type GrainMap, type GrainTable, ZERO_GRAIN } from './grain-index.ts'
import { ENTRIES_PER_TABLE, type HostedSparseHeader } from './hosted-sparse-header.ts'
import { PagedBytes } from './paged-bytes.ts'

const TABLE_BYTES = ENTRIES_PER_TABLE * 4

/**
 * The two-level tables of a KDMV file at `directory` (from header or footer). Where a redundant copy exists both are compared, for a
 * damaged directory would otherwise read as an empty disk.
 */
export function hostedSparseMap(bytes: ByteSource, header: HostedSparseHeader, directory: number): GrainMap {
  const { name, size } = bytes
  const inFile = (position: number, length: number, what: string): void => {
    if (position + length > size) throw corrupt(name, `is ${size} bytes long, but its ${what} lies beyond that`)
  }
  const open = (position: number, what: string): PagedBytes => {
    inFile(position, header.tables * 4, what)
    return new PagedBytes(bytes, position, header.tables * 4)
  }
  const primary = open(directory, 'grain directory')
  const { redundantDirectory } = header
  if (redundantDirectory === 0) throw corrupt(name, 'announces a redundant grain directory but has none')
  const redundant = redundantDirectory === undefined ? undefined : open(redundantDirectory, 'redundant grain directory')

  const entry = async (pages: PagedBytes, table: number): Promise<number> => {
    const { view, at } = await pages.view(table * 4)
    const position = view.getUint32(at, true) * SECTOR
    if (position !== 0) inFile(position, TABLE_BYTES, `grain table ${table}`)
    return position
  }
  const load = async (position: number): Promise<DataView> => {
    const raw = new Uint8Array(TABLE_BYTES)
    await bytes.read(position, raw)
    return new DataView(raw.buffer)
  }
  const judge = (value: number, grain: number): number => {
    const start = grain * header.grainBytes
    if (start >= header.capacity || value === 0) return ABSENT_GRAIN
    if (value === 1) {
      if (header.zeroGrains) return ZERO_GRAIN
      throw corrupt(name, `marks grain ${grain} as zero without announcing such grains`)
    }
    const position = value * SECTOR
    const needed = header.compressed ? (header.markers ? 12 : 4) : Math.min(header.grainBytes, header.capacity - start)
    if (position < header.overhead) throw corrupt(name, `has grain ${grain} inside its own tables`)
    inFile(position, needed, `grain ${grain}`)
    return position
  }

  return {
    size: header.capacity,
    grainBytes: header.grainBytes,
    grainsPerTable: ENTRIES_PER_TABLE,
    async tablePosition(table: number): Promise<number> {
      const position = await entry(primary, table)
      if (redundant !== undefined && (position === 0) !== ((await entry(redundant, table)) === 0)) {
        throw corrupt(name, `has two grain directories that differ at entry ${table}`)
      }
      return position
    },
    async readTable(table: number, position: number): Promise<GrainTable> {
      const view = await load(position)
      if (redundant !== undefined) {
        const copy = await load(await entry(redundant, table))
        if (Buffer.compare(new Uint8Array(view.buffer), new Uint8Array(copy.buffer)) !== 0) {
          throw corrupt(name, `has two copies of grain table ${table} that differ`)
        }
      }
      const grains = new Float64Array(ENTRIES_PER_TABLE)
      for (let index = 0; index < ENTRIES_PER_TABLE; index++) {
        grains[index] = judge(view.getUint32(index * 4, true), table * ENTRIES_PER_TABLE + index)
      }
      return grains
    },
  }
}
