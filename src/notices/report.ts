import type { RunRecord, VmRef } from '../core/index.ts'
import { type Coverage, type CoveredVm, isOverdue, type JobProblem } from './coverage.ts'

/** A disk, or what else a point of a VM does not hold. */
export type LeftOut = { readonly vm: VmRef; readonly what: string; readonly reason: string }

/** A run without a point, and the good point that came after it, if any. */
export type FailedRun = { readonly record: RunRecord; readonly goodSince: string | undefined }

/** A VM whose last good point is older than it may be. */
export type OverdueVm = {
  readonly vm: VmRef
  readonly jobs: readonly string[]
  /** ISO 8601; undefined: it has none. */
  readonly lastGoodAt: string | undefined
  readonly allowedAgeMs: number
  readonly hasRpo: boolean
}

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
  /** VMs that are in a job; undefined: it was not asked which VMs there are. */
  readonly covered: number | undefined
  readonly unknown: readonly string[]
  readonly unselected: readonly VmRef[]
  readonly overdue: readonly OverdueVm[]
  readonly problems: readonly JobProblem[]
  readonly leftOut: readonly LeftOut[]
  readonly failed: readonly FailedRun[]
  readonly canceled: readonly RunRecord[]
  readonly succeeded: readonly RunRecord[]
  /** Of the lists above, which may have been shortened since; warnings are those of succeeded runs. */
  readonly counts: Readonly<Record<ReportList | 'warnings', number>>
  readonly totals: { readonly diskBytes: number; readonly readBytes: number; readonly storedBytes: number; readonly ms: number }
}

export type ReportList = 'unknown' | 'unselected' | 'overdue' | 'problems' | 'leftOut' | 'failed' | 'canceled' | 'succeeded'

export type ReportRequest = {
  readonly title: string
  readonly proxy: string
  readonly since?: Date | undefined
  readonly until: Date
  readonly timeZone: string
  readonly records: readonly RunRecord[]
  readonly coverage?: Coverage | undefined
  /** VMs that are overdue, where coverage as a whole was not asked for. */
  readonly overdue?: readonly OverdueVm[] | undefined
  /** Beside those of the coverage. */
  readonly problems?: readonly JobProblem[] | undefined
}

/** A report of runs, in any order, and of coverage. Pure. */
export function createReport(request: ReportRequest): Report {
  const { title, proxy, since, until, timeZone, records, coverage } = request
  const byEnd = records.toSorted((a, b) => a.endedAt.localeCompare(b.endedAt) || a.vm.path.localeCompare(b.vm.path))
  const succeeded = byEnd.filter(({ result }) => result === 'succeeded')
  const newest = new Map(succeeded.map((record) => [keyOf(record.vm), record]))
  const sum = (of: (record: RunRecord) => number): number => succeeded.reduce((total, record) => total + of(record), 0)
  const overdue = request.overdue ?? (coverage === undefined ? [] : overdueOf(coverage))
  const lists = {
    unknown: coverage?.unknown ?? [],
    unselected: (coverage?.unselected ?? []).toSorted((a, b) => a.path.localeCompare(b.path)),
    overdue: overdue.toSorted((a, b) => (a.lastGoodAt ?? '').localeCompare(b.lastGoodAt ?? '') || a.vm.path.localeCompare(b.vm.path)),
    problems: [...(coverage?.problems ?? []), ...(request.problems ?? [])],
    leftOut: [...newest.values()].flatMap(({ vm, notProtected }) => notProtected.map((each) => ({ vm, ...each }))),
    failed: byEnd
      .filter(({ result }) => result === 'failed')
      .map((record) => {
        const good = newest.get(keyOf(record.vm))
        return { record, goodSince: good !== undefined && good.endedAt > record.endedAt ? good.endedAt : undefined }
      }),
    canceled: byEnd.filter(({ result }) => result === 'canceled'),
    succeeded,
  }
  return {
    title,
    proxy,
    since: since?.toISOString(),
    until: until.toISOString(),
    timeZone,
    covered: coverage?.covered.length,
    ...lists,
    counts: {
      unknown: lists.unknown.length,
      unselected: lists.unselected.length,
      overdue: lists.overdue.length,
      problems: lists.problems.length,
      leftOut: lists.leftOut.length,
      failed: lists.failed.length,
      canceled: lists.canceled.length,
      succeeded: succeeded.length,
      warnings: sum(({ warnings }) => warnings.length),
    },
    totals: {
      diskBytes: sum(({ totalBytes }) => totalBytes),
      readBytes: sum(({ readBytes }) => readBytes),
      storedBytes: sum(({ storedBytes }) => storedBytes),
      ms: sum(tookMs),
    },
  }
}

/** The VMs of a coverage whose last good point is too old at its moment. */
export const overdueOf = ({ at, covered }: Coverage): readonly OverdueVm[] =>
  covered.filter((each) => isOverdue(each, at)).map((each) => overdueVm(each))

export const overdueVm = ({ vm, jobs, lastGoodAt, allowedAgeMs, hasRpo }: CoveredVm): OverdueVm => ({
  vm,
  jobs,
  lastGoodAt: lastGoodAt?.toISOString(),
  allowedAgeMs,
  hasRpo,
})

/** The same report with no list longer than `most`; its counts stay. For what has to be of a size that can be sent. */
export const shortened = (report: Report, most: number): Report => ({
  ...report,
  unknown: report.unknown.slice(0, most),
  unselected: report.unselected.slice(0, most),
  overdue: report.overdue.slice(0, most),
  problems: report.problems.slice(0, most),
  leftOut: report.leftOut.slice(0, most),
  failed: report.failed.slice(0, most),
  canceled: report.canceled.slice(0, most),
  succeeded: report.succeeded.slice(0, most),
})

export const tookMs = ({ begunAt, endedAt }: Pick<RunRecord, 'begunAt' | 'endedAt'>): number =>
  Math.max(0, Date.parse(endedAt) - Date.parse(begunAt))

/** Whether somebody has to do something. */
export const needsAttention = ({ counts }: Report): boolean =>
  counts.unknown + counts.unselected + counts.overdue + counts.problems + counts.leftOut + counts.failed + counts.warnings > 0

const keyOf = ({ vcenterUuid, instanceUuid }: VmRef): string => `${vcenterUuid}/${instanceUuid}`
