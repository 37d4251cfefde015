import { BitSet } from './bit-set.ts'
import type { BlobIndex } from './blob-index.ts'
import { BlobRecords } from './blob-records.ts'
import { encodeIndexFile, INDEX_FILE_BLOBS } from './index-file.ts'
import type { PackRange } from './index-store.ts'
import type { PackTable } from './pack-table.ts'

export type IndexFacts = {
  readonly index: BlobIndex
  readonly table: PackTable
  readonly files: ReadonlyMap<string, PackRange>
  /** Rows of packs that go; none of them is in a file that stays. */
  readonly gone: BitSet
  /** Names of files that their server keeps. */
  readonly stay: ReadonlySet<string>
}

export type IndexRewrite = {
  /** Names of files that others take the place of. */
  readonly superseded: readonly string[]
  /** Rows of the packs that the new files name. */
  readonly rows: readonly number[]
}

/** Blobs of an index file that is left as it is when none of its packs goes. */
const WELL_FILLED = INDEX_FILE_BLOBS / 2
/** Smaller ones are put together when there are so many. */
const MANY = 4

/** Which index files are superseded: those that name a pack that goes, and with them empty ones, and small ones when there are several. A pack that stays is always in one. */
export function planIndex({ table, files, gone, stay }: Omit<IndexFacts, 'index'>): IndexRewrite {
  const all = [...files].map(([name, range]) => ({ name, rows: rowsOf(table, range) }))
  const affected = all.filter(({ rows }) => rows.some((row) => gone.has(row)))
  if (affected.length === 0) return { superseded: [], rows: [] }
  const blobs = (rows: readonly number[]): number => rows.reduce((sum, row) => sum + table.records(row).length, 0)
  const small = all.filter((each) => !affected.includes(each) && !stay.has(each.name) && blobs(each.rows) < WELL_FILLED)
  const together = small.length + affected.length >= MANY ? small : small.filter(({ rows }) => blobs(rows) === 0)
  const superseded = [...affected, ...together]
  const covered = new BitSet(table.count)
  for (const each of all) if (!superseded.includes(each)) for (const row of each.rows) covered.add(row)
  return {
    superseded: superseded.map(({ name }) => name),
    rows: superseded.flatMap(({ rows }) => rows.filter((row) => !gone.has(row) && table.records(row).length > 0 && covered.add(row))),
  }
}

export const rowsOf = (table: PackTable, { from, to }: PackRange): readonly number[] =>
  Array.from({ length: to - from }, (_, at) => table.rowOfPack(from + at))

/** The new files, one at a time: each within the size that restic keeps to. */
export function* encodeRows({ index, table }: Pick<IndexFacts, 'index' | 'table'>, rows: readonly number[]): Generator<Buffer> {
  let packs: { readonly id: Uint8Array; readonly blobs: BlobRecords }[] = []
  let count = 0
  for (const row of rows) {
    const records = table.records(row)
    if (count > 0 && count + records.length > INDEX_FILE_BLOBS) {
      yield encodeIndexFile(packs)
      packs = []
      count = 0
    }
    const blobs = new BlobRecords()
    const sorted = [...records].sort((a, b) => index.location(a).offset - index.location(b).offset)
    for (const record of sorted) blobs.add(index.idOf(record), index.location(record))
    packs.push({ id: table.id(row), blobs })
    count += records.length
  }
  if (packs.length > 0) yield encodeIndexFile(packs)
}
