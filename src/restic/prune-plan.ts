import { AgentError } from '../core/index.ts'
import { BitSet } from './bit-set.ts'
import type { BlobIndex } from './blob-index.ts'
import { DATA } from './blob-records.ts'
import { idHex } from './ids.ts'
import { headerEntryBytes } from './pack-header.ts'
import type { PackTable } from './pack-table.ts'
import { damaged } from './used-blobs.ts'

/** Packs below a 25th of a pack's usual size are put together, as restic does, when there are ten of them. */
const SMALL = 25
const MANY_SMALL = 10

/** What may stay that nobody needs: bytes, a share of the repository afterwards, or anything. */
export type MostUnused = { readonly bytes: number } | { readonly percent: number } | 'unlimited'

/** A pack file as its backend lists it. */
export type ListedPack = { readonly name: string; readonly size: number }

export type PruneFacts = {
  readonly index: BlobIndex
  readonly table: PackTable
  /** First records of the blobs that snapshots need. */
  readonly used: BitSet
  /** Bytes of each row's file; 0 = there is none. */
  readonly sizes: Float64Array
  /** Files that no index file names. */
  readonly unreferenced: readonly ListedPack[]
  /** Rows that have to stay, whatever is in them. */
  readonly pinned: BitSet
  /** The same of those that no index file names. */
  readonly pinnedStray: ReadonlySet<string>
}

export type PruneLimits = {
  readonly mostUnused: MostUnused
  /** Bytes of packs that are written anew, at most. */
  readonly mostRepacked: number
  /** The usual size of a pack in bytes. */
  readonly packSize: number
}

export type Amount = { readonly packs: number; readonly bytes: number }

export type PrunePlan = {
  /** Rows of packs that go, with nothing of them wanted. */
  readonly remove: readonly number[]
  /** Rows of packs whose wanted blobs are written anew before they go. */
  readonly repack: readonly number[]
  /** Files that no index names, which go. */
  readonly stray: readonly ListedPack[]
  /** The copy of each needed blob that is kept, by its record. */
  readonly kept: BitSet
  readonly figures: PruneFigures
}

/** What a plan comes to. Bytes of blobs are those in their packs, each with its line of the pack's header. */
export type PruneFigures = {
  /** All pack files, those that no index names included. */
  readonly before: Amount
  /** Needed by a snapshot, each blob once. */
  readonly usedBytes: number
  /** Needed by none, and second copies. */
  readonly unusedBytes: number
  readonly unreferenced: Amount
  /** Packs of the index with nothing in use. */
  readonly removed: Amount
  /** Packs written anew, and how much of them stays. */
  readonly repacked: Amount & { readonly keptBytes: number }
  /** What the removal of all these frees. */
  readonly freedBytes: number
  /** Unused bytes that stay in packs partly in use. */
  readonly unusedAfterBytes: number
  /** Packs that have to stay although they would go, or be written anew, and the unused bytes in them. */
  readonly pinned: Amount
}

type Row = { readonly row: number; readonly unused: number; readonly used: number; readonly trees: boolean; readonly size: number }

/**
 * Decides what becomes of every pack, as restic does: unused ones go; of those partly used the emptiest are written anew until what is left unused is within the limit,
 * and trees always; of copies one is kept. Pure: nothing is read. INTEGRITY when a needed blob is in no pack that is there.
 */
export function planPrune(facts: PruneFacts, limits: PruneLimits): PrunePlan {
  const { table, sizes, pinned } = facts
  const stray = facts.unreferenced.filter(({ name }) => !facts.pinnedStray.has(name))
  const held = amount(facts.unreferenced.filter(({ name }) => facts.pinnedStray.has(name)).map(({ size }) => size))
  const kept = chooseCopies(facts)
  const remove: number[] = []
  const candidates: Row[] = []
  const small: Row[] = []
  const stay: number[] = []
  let unusedBytes = 0
  let usedBytes = 0
  let left = 0
  for (let row = 0; row < table.count; row++) {
    const each = rowOf(facts, kept, row)
    usedBytes += each.used
    unusedBytes += each.unused
    if (pinned.has(row)) {
      if (each.unused > 0) stay.push(each.unused)
      continue
    }
    if (each.used === 0) remove.push(row)
    else if (each.unused > 0) {
      candidates.push(each)
      left += each.unused
    } else if (each.used < limits.packSize / SMALL) small.push(each)
  }
  // Also prevents that a single small pack is written again and again.
  if (small.length >= MANY_SMALL) candidates.push(...small)
  const repack: number[] = []
  const repacked = { packs: 0, bytes: 0, keptBytes: 0 }
  const most = unusedLimit(limits.mostUnused, usedBytes)
  for (const { row, unused, used, trees, size } of candidates.sort(firstToRepack)) {
    const enough = left <= most && used + unused >= limits.packSize / SMALL && !trees
    if (enough || repacked.bytes + size > limits.mostRepacked) continue
    repack.push(row)
    left -= unused
    repacked.packs++
    repacked.bytes += size
    repacked.keptBytes += used
  }
  const removed = amount(remove.map((row) => sizes[row] ?? 0))
  const unreferenced = amount(stray.map(({ size }) => size))
  const listed = amount(Array.from(sizes))
  const stuck = amount(stay)
  return {
    remove,
    repack,
    stray,
    kept,
    figures: {
      before: { packs: listed.packs + unreferenced.packs + held.packs, bytes: listed.bytes + unreferenced.bytes + held.bytes },
      usedBytes,
      unusedBytes,
      unreferenced,
      removed,
      repacked,
      freedBytes: unreferenced.bytes + removed.bytes + repacked.bytes - repacked.keptBytes,
      unusedAfterBytes: unusedBytes - unusedOf(facts, kept, remove) - unusedOf(facts, kept, repack),
      pinned: { packs: stuck.packs + held.packs, bytes: stuck.bytes + held.bytes },
    },
  }
}

/** Trees first: all of them are read when anything is. Then what frees most for what has to be written. */
const firstToRepack = (a: Row, b: Row): number =>
  Number(b.trees) - Number(a.trees) || b.unused / b.used - a.unused / a.used || a.row - b.row

function unusedLimit(most: MostUnused, usedBytes: number): number {
  if (most === 'unlimited') return Number.POSITIVE_INFINITY
  return 'bytes' in most ? most.bytes : (most.percent / (100 - most.percent)) * usedBytes
}

/** Of each needed blob the record of one copy: where the pack stays anyway, else where most of the pack is needed. */
function chooseCopies(facts: PruneFacts): BitSet {
  const { index, table, used, pinned, sizes } = facts
  const kept = new BitSet(index.count)
  const several = new BitSet(index.count)
  const needed = new Float64Array(table.count)
  for (let record = 0; record < index.count; record++) {
    const first = firstOf(index, record)
    if (first !== record) several.add(first)
    if (used.has(first)) needed[table.rowOfRecord(record)]! += bytesOf(index, record)
  }
  const weight = (record: number): number => {
    const row = table.rowOfRecord(record)
    return pinned.has(row) ? Number.POSITIVE_INFINITY : (needed[row] ?? 0) / (sizes[row] ?? 1)
  }
  for (let record = 0; record < index.count; record++) {
    if (!used.has(record)) continue
    const { type } = index.location(record)
    const copies = several.has(record) ? index.numbersOf(type, index.idOf(record)) : [record]
    const [first, ...others] = copies.filter((copy) => isThere(facts, copy))
    if (first === undefined) throw gone(facts, record)
    kept.add(others.reduce((best, copy) => (weight(copy) > weight(best) ? copy : best), first))
  }
  return kept
}

function rowOf({ index, table, sizes }: PruneFacts, kept: BitSet, row: number): Row {
  let [used, unused, trees] = [0, 0, false]
  for (const record of table.records(row)) {
    if (kept.has(record)) used += bytesOf(index, record)
    else unused += bytesOf(index, record)
    trees ||= index.location(record).type !== DATA
  }
  return { row, used, unused, trees, size: sizes[row] ?? 0 }
}

const unusedOf = (facts: PruneFacts, kept: BitSet, rows: readonly number[]): number =>
  rows.reduce((sum, row) => sum + rowOf(facts, kept, row).unused, 0)

const firstOf = (index: BlobIndex, record: number): number => index.numberOf(index.location(record).type, index.idOf(record)) ?? record

function bytesOf(index: BlobIndex, record: number): number {
  const { length, uncompressedLength } = index.location(record)
  return length + headerEntryBytes(uncompressedLength)
}

/** A copy counts only in a pack that is there and long enough. */
function isThere({ index, table, sizes }: PruneFacts, record: number): boolean {
  const { offset, length } = index.location(record)
  return offset + length < (sizes[table.rowOfRecord(record)] ?? 0)
}

function gone({ index, table }: PruneFacts, record: number): AgentError {
  const pack = table.name(table.rowOfRecord(record))
  return damaged(
    new AgentError('INTEGRITY', `Pack ${pack}, which holds ${idHex(index.idOf(record))}, is missing or too short.`, { subject: pack }),
  )
}

const amount = (sizes: readonly number[]): Amount => {
  const there = sizes.filter((size) => size > 0)
  return { packs: there.length, bytes: there.reduce((sum, size) => sum + size, 0) }
}
