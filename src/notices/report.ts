import type { RunRecord, VmRef } from '../core/index.ts'
import { type Coverage, type CoveredVm, isOverdue } from './coverage.ts'

/** A disk, or what else a point of a VM does not hold. */
export type LeftOut = { readonly vm: VmRef; readonly what: string; readonly reason: string }

/** A run without a point, and the good point that came after it, if any. */
export type FailedRun = { readonly record: RunRecord; readonly goodSince: string | undefined }

/** What happened between two moments, and what is not protected; rendered as text and as HTML in the same order. Plain data, for JSON too. */
export type Report = {
  readonly title: string
  /** The machine whose agent tells this. */
  readonly proxy: string
  /** ISO 8601; undefined = of single runs, whenever they were. */
  readonly since: string | undefined
  readonly until: string
  /** In which moments are shown. */
  readonly timeZone: string
  /** Undefined: it was not asked which VMs there are; a report of single runs. */
  readonly notProtected:
    | {
        readonly unselected: readonly VmRef[]
        readonly overdue: readonly CoveredVm[]
        readonly unknown: readonly string[]
        readonly covered: number
      }
    | undefined
  readonly leftOut: readonly LeftOut[]
  readonly failed: readonly FailedRun[]
  readonly canceled: readonly RunRecord[]
  readonly succeeded: readonly RunRecord[]
  readonly totals: { readonly diskBytes: number; readonly readBytes: number; readonly storedBytes: number; readonly ms: number }
}

export type ReportRequest = {
  readonly title: string
  readonly proxy: string
  readonly since?: Date | undefined
  readonly until: Date
  readonly timeZone: string
  readonly records: readonly RunRecord[]
  readonly coverage?: Coverage | undefined
}

/** A report of runs, in any order, and of coverage. Pure. */
export function createReport({ title, proxy, since, until, timeZone, records, coverage }: ReportRequest): Report {
  const byEnd = records.toSorted((a, b) => a.endedAt.localeCompare(b.endedAt) || a.vm.path.localeCompare(b.vm.path))
  const succeeded = byEnd.filter(({ result }) => result === 'succeeded')
  const newest = new Map(succeeded.map((record) => [keyOf(record.vm), record]))
  const sum = (of: (record: RunRecord) => number): number => succeeded.reduce((total, record) => total + of(record), 0)
  return {
    title,
    proxy,
    since: since?.toISOString(),
    until: until.toISOString(),
    timeZone,
    notProtected:
      coverage === undefined
        ? undefined
        : {
            unselected: coverage.unselected.toSorted((a, b) => a.path.localeCompare(b.path)),
            overdue: coverage.covered
              .filter((covered) => isOverdue(covered, coverage.at))
              .toSorted((a, b) => (a.lastGoodAt?.getTime() ?? 0) - (b.lastGoodAt?.getTime() ?? 0) || a.vm.path.localeCompare(b.vm.path)),
            unknown: coverage.unknown,
            covered: coverage.covered.length,
          },
    leftOut: [...newest.values()].flatMap(({ vm, notProtected }) => notProtected.map((each) => ({ vm, ...each }))),
    failed: byEnd
      .filter(({ result }) => result === 'failed')
      .map((record) => {
        const good = newest.get(keyOf(record.vm))
        return { record, goodSince: good !== undefined && good.endedAt > record.endedAt ? good.endedAt : undefined }
      }),
    canceled: byEnd.filter(({ result }) => result === 'canceled'),
    succeeded,
    totals: {
      diskBytes: sum(({ totalBytes }) => totalBytes),
      readBytes: sum(({ readBytes }) => readBytes),
      storedBytes: sum(({ storedBytes }) => storedBytes),
      ms: sum(tookMs),
    },
  }
}

export const tookMs = ({ begunAt, endedAt }: Pick<RunRecord, 'begunAt' | 'endedAt'>): number =>
  Math.max(0, Date.parse(endedAt) - Date.parse(begunAt))

/** Whether somebody has to do something. */
export const needsAttention = ({ notProtected, leftOut, failed, succeeded }: Report): boolean =>
  (notProtected !== undefined && notProtected.unselected.length + notProtected.overdue.length + notProtected.unknown.length > 0) ||
  leftOut.length > 0 ||
  failed.length > 0 ||
  succeeded.some(({ warnings }) => warnings.length > 0)

const keyOf = ({ vcenterUuid, instanceUuid }: VmRef): string => `${vcenterUuid}/${instanceUuid}`
