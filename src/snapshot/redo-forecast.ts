import { type DatastoreRef, MIB, type PointSummary } from '../core/index.ts'

/** What must stay free on a datastore. */
export type SpaceReserve = { readonly bytes: number } | { readonly percent: number }

/** What is expected of one backup run of a VM. */
export type ExpectedRun = {
  /** Bytes to read from the source. */
  readonly bytes: number
  /** Bytes the guest overwrites in an hour; undefined = never measured. */
  readonly changedPerHour: number | undefined
  /** Bytes read in a second, as measured by earlier runs; undefined = never measured. */
  readonly readPerSecond: number | undefined
}

/** A disk whose redo log grows while the snapshot is open. */
export type GrowingDisk = { readonly datastore: string; readonly capacityBytes: number; readonly thin: boolean }

const HOUR_MS = 3_600_000
/** An hour's change of a guest nobody has measured yet: 2 % of its disks a day. */
const UNKNOWN_CHANGE = 0.02 / 24
/** A transport nobody has measured yet, bytes a second. */
const UNKNOWN_READ = 100 * MIB
/** Snapshot, planning, commit and removal around the reading, ms. */
const AROUND_MS = 2 * 60_000
/** A measured rate is an average of hours; the hour of the backup may be a busier one. */
const SAFETY = 2
/** Header and first tables of a redo log, bytes; later tables take below 1 % of what they describe. */
const LOG_BYTES = 16 * MIB
const TABLES = 1.01
/** Two points closer than this tell nothing about a day, ms. */
const SHORTEST_GAP_MS = 10 * 60_000
const RATES_TAKEN = 7

/**
 * Bytes a VM changes in an hour, from its incrementals: what each read, over the time since the point before it; the highest of the last seven.
 * Undefined when there are none far enough apart.
 */
export function changeRate(points: readonly PointSummary[]): number | undefined {
  const ordered = [...points].sort((a, b) => Date.parse(b.time) - Date.parse(a.time))
  const rates: number[] = []
  for (const [index, point] of ordered.entries()) {
    const before = ordered[index + 1]
    if (point.mode !== 'incremental' || before === undefined) continue
    const gapMs = Date.parse(point.time) - Date.parse(before.time)
    if (gapMs >= SHORTEST_GAP_MS) rates.push(point.readBytes / (gapMs / HOUR_MS))
    if (rates.length === RATES_TAKEN) break
  }
  return rates.length === 0 ? undefined : Math.max(...rates)
}

/** How long a run takes until its snapshot is gone, ms. */
export const runDurationMs = (run: ExpectedRun): number => AROUND_MS + (run.bytes / (run.readPerSecond ?? UNKNOWN_READ)) * 1000

/**
 * Bytes the redo logs of a VM grow to on each datastore while its snapshot is open: the guest's rate over the expected duration, shared among the
 * disks by size, doubled because the rate is an average; never more than the disks can hold. A redo log never takes less than its header.
 */
export function forecastGrowth(disks: readonly GrowingDisk[], run: ExpectedRun): ReadonlyMap<string, number> {
  const capacity = disks.reduce((sum, disk) => sum + disk.capacityBytes, 0)
  const perHour = run.changedPerHour === undefined ? capacity * UNKNOWN_CHANGE : run.changedPerHour * SAFETY
  const growth = (perHour * runDurationMs(run)) / HOUR_MS
  const stores = new Map<string, number>()
  for (const { datastore, capacityBytes } of disks) {
    const share = capacity === 0 ? 0 : growth * (capacityBytes / capacity)
    const log = LOG_BYTES + Math.min(capacityBytes, share) * TABLES
    stores.set(datastore, Math.ceil((stores.get(datastore) ?? 0) + log))
  }
  return stores
}

/** Bytes that must stay free; 5 GiB or 5 %, whichever is less, when nothing is configured. */
export function reserveOf(store: Pick<DatastoreRef, 'capacityBytes'>, reserve: SpaceReserve | undefined): number {
  if (reserve === undefined) return Math.min(5 * 1024 * MIB, store.capacityBytes * 0.05)
  return 'bytes' in reserve ? reserve.bytes : (store.capacityBytes * reserve.percent) / 100
}

/** Free space at one moment; `atMs` monotonic. */
export type SpaceSample = { readonly atMs: number; readonly freeBytes: number }

/** Bytes a datastore loses in a ms: the steeper of the last two samples and all of them; 0 when it does not fill. */
export function fillRate(samples: readonly SpaceSample[]): number {
  const last = samples.at(-1)
  if (last === undefined) return 0
  const from = (first: SpaceSample | undefined): number =>
    first === undefined || first.atMs >= last.atMs ? 0 : (first.freeBytes - last.freeBytes) / (last.atMs - first.atMs)
  return Math.max(0, from(samples.at(-2)), from(samples[0]))
}
