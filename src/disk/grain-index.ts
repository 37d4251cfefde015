import { type Abortable, type Extent, type ExtentKind, type Range, throwIfAborted } from '../core/index.ts'
import { BoundedCache } from './bounded-cache.ts'

/** Where each grain of one table lies: byte position in the file, or one of the two marks. */
export type GrainTable = Float64Array
export const ABSENT_GRAIN = 0
export const ZERO_GRAIN = -1

/** What a sparse format knows about its directory and tables. */
export type GrainMap = {
  /** Bytes of the disk. */
  readonly size: number
  readonly grainBytes: number
  readonly grainsPerTable: number
  /** Byte position of a table in the file as the directory names it; 0 = all its grains are absent. Errors: INTEGRITY. */
  tablePosition(table: number): number | Promise<number>
  /** Reads and judges a table. Errors: INTEGRITY when an entry cannot be true. */
  readTable(table: number, position: number): Promise<GrainTable>
}

/** Bytes of decoded tables kept; 8 bytes a grain. */
const TABLE_CACHE = 4 * 1024 * 1024

/** A stretch of the disk inside one table. `table` is undefined when none of its grains exist. */
export type TableView = { readonly table: GrainTable | undefined; readonly start: number; readonly end: number }

/** Looks up grains of a sparse format through a bounded cache of tables, and lists extents from them. */
export class GrainIndex {
  readonly size: number
  readonly grainBytes: number
  readonly #map: GrainMap
  readonly #covered: number
  readonly #tables: BoundedCache<GrainTable>

  constructor(map: GrainMap) {
    this.size = map.size
    this.grainBytes = map.grainBytes
    this.#map = map
    this.#covered = map.grainBytes * map.grainsPerTable
    this.#tables = new BoundedCache(TABLE_CACHE / (map.grainsPerTable * 8))
  }

  /** The table that covers byte `at`, and the bytes of the disk it covers. */
  async at(at: number, options?: Abortable): Promise<TableView> {
    throwIfAborted(options)
    const index = Math.floor(at / this.#covered)
    const found = this.#map.tablePosition(index)
    const position = typeof found === 'number' ? found : await found
    const table = position === 0 ? undefined : await this.#tables.get(index, () => this.#map.readTable(index, position))
    return { table, start: index * this.#covered, end: (index + 1) * this.#covered }
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const end = range.offset + range.length
    let start = range.offset
    let kind: ExtentKind | undefined
    for (let at = range.offset; at < end; ) {
      const view = await this.at(at, options)
      const stop = Math.min(view.end, end)
      while (at < stop) {
        const grain = Math.floor((at - view.start) / this.grainBytes)
        const position = view.table?.[grain] ?? ABSENT_GRAIN
        const here: ExtentKind = position > 0 ? 'data' : position === ZERO_GRAIN ? 'zero' : 'absent'
        if (here !== kind) {
          if (kind !== undefined && at > start) yield { offset: start, length: at - start, kind }
          start = at
          kind = here
        }
        at = view.table === undefined ? stop : Math.min(view.start + (grain + 1) * this.grainBytes, stop)
      }
    }
    if (kind !== undefined && end > start) yield { offset: start, length: end - start, kind }
  }
}
