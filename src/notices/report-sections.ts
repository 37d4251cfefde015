import { formatBytes, formatLength, formatMoment, type RunRecord } from '../core/index.ts'
import { type FailedRun, type Report, tookMs } from './report.ts'

/** One part of a report, in words, for whichever way it is shown. Texts of strangers stand in it as they are. */
export type Section = {
  readonly title: string
  /** Something is not protected: it stands before everything else, and is marked. */
  readonly alarming: boolean
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
  /** Rows that are not shown. */
  readonly more: number
}

/** A mail of ten thousand VMs is not read; `vcb report --json` tells all. */
export const MOST_ROWS = 500

/** What is not protected first, then what is. Parts with nothing in them are left out. */
export function sectionsOf(report: Report): readonly Section[] {
  const { timeZone, counts } = report
  const moment = (at: string | Date): string => formatMoment(new Date(at), timeZone)
  const until = Date.parse(report.until)
  const all: readonly Section[] = [
    section(
      'Not known',
      counts.unknown,
      true,
      ['What could not be found out'],
      report.unknown.map((sentence) => [sentence]),
    ),
    section(
      'VMs in no job',
      counts.unselected,
      true,
      ['VM', 'Folder'],
      report.unselected.map(({ name, path }) => [name, folderOf(path)]),
    ),
    section(
      'Last good point too old',
      counts.overdue,
      true,
      ['VM', 'Last good point', 'Age', 'Allowed', 'Jobs'],
      report.overdue.map(({ vm, lastGoodAt, allowedAgeMs, hasRpo, jobs }) => [
        vm.name,
        lastGoodAt === undefined ? 'none' : moment(lastGoodAt),
        lastGoodAt === undefined ? '-' : formatLength(until - Date.parse(lastGoodAt)),
        `${formatLength(allowedAgeMs)}${hasRpo ? '' : ' (no RPO)'}`,
        jobs.join(', '),
      ]),
    ),
    section(
      'Jobs with problems',
      counts.problems,
      true,
      ['Job', 'Problem', 'What happened'],
      report.problems.map(({ job, what, reason }) => [job, what, reason]),
    ),
    section(
      'Left out of the last point',
      counts.leftOut,
      true,
      ['VM', 'Disk', 'Reason'],
      report.leftOut.map(({ vm, what, reason }) => [vm.name, what, reason]),
    ),
    section(
      'Failed runs',
      counts.failed,
      true,
      ['VM', 'Job', 'Begun', 'Took', 'What happened, and what to do'],
      report.failed.map((failed) => failedRow(failed, moment)),
    ),
    section(
      'Canceled runs',
      counts.canceled,
      false,
      ['VM', 'Job', 'Begun', 'Took', 'By whom'],
      report.canceled.map((record) => [...runCells(record, moment), record.error?.message ?? '']),
    ),
    section(
      'Warnings',
      counts.warnings,
      false,
      ['VM', 'Job', 'Warning'],
      report.succeeded.flatMap(({ vm, job, warnings }) => warnings.map((warning) => [vm.name, job ?? '-', warning])),
    ),
    section(
      'Succeeded',
      counts.succeeded,
      false,
      ['VM', 'Job', 'Begun', 'Took', 'Mode', 'Disks', 'Read', 'Stored', 'Snapshot', 'Frozen', 'Consistency'],
      report.succeeded.map((record) => [
        ...runCells(record, moment),
        record.mode ?? '-',
        formatBytes(record.totalBytes),
        formatBytes(record.readBytes),
        formatBytes(record.storedBytes),
        record.snapshotLifetimeMs === undefined ? '-' : formatLength(record.snapshotLifetimeMs),
        record.frozenMs === undefined ? '-' : formatSeconds(record.frozenMs),
        record.consistency ?? '-',
      ]),
    ),
  ]
  return all.filter(({ rows, more }) => rows.length + more > 0)
}

/** One sentence: `1 VM in no job, 2 runs failed; 14 runs succeeded, 12.0 GiB read, 3.1 GiB stored.` */
export function summaryOf({ counts, totals }: Report): string {
  const bad = [
    count(counts.unknown, 'thing could not be found out', 'things could not be found out'),
    count(counts.unselected, 'VM in no job', 'VMs in no job'),
    count(counts.overdue, 'VM without a good point that is young enough', 'VMs without a good point that is young enough'),
    count(counts.problems, 'job with a problem', 'jobs with problems'),
    count(counts.leftOut, 'disk left out', 'disks left out'),
    count(counts.failed, 'run failed', 'runs failed'),
    count(counts.canceled, 'run canceled', 'runs canceled'),
  ].filter((part) => part !== '')
  const good =
    counts.succeeded === 0
      ? 'no run succeeded'
      : `${count(counts.succeeded, 'run', 'runs')} succeeded, ${formatBytes(totals.readBytes)} read, ${formatBytes(totals.storedBytes)} stored`
  return `${bad.length === 0 ? '' : `${bad.join(', ')}; `}${good}.`
}

/** `2026-11-25 07:00 to 2026-11-26 07:00 (Europe/Berlin)` */
export function periodOf({ since, until, timeZone }: Report): string {
  const end = formatMoment(new Date(until), timeZone)
  return `${since === undefined ? end : `${formatMoment(new Date(since), timeZone)} to ${end}`} (${timeZone})`
}

function section(title: string, all: number, alarming: boolean, head: readonly string[], rows: readonly (readonly string[])[]): Section {
  const shown = rows.slice(0, MOST_ROWS)
  return { title: `${title} (${all})`, alarming, head, rows: shown, more: Math.max(0, all - shown.length) }
}

const runCells = (record: RunRecord, moment: (at: string) => string): readonly string[] => [
  record.vm.name,
  record.job ?? '-',
  moment(record.begunAt),
  formatLength(tookMs(record)),
]

function failedRow({ record, goodSince }: FailedRun, moment: (at: string) => string): readonly string[] {
  const { error } = record
  const next = error?.next === undefined ? '' : ` ${error.next}`
  const good = goodSince === undefined ? '' : ` A good point came after it, ${moment(goodSince)}.`
  return [...runCells(record, moment), `${error === undefined ? 'No reason is known.' : `${error.code}: ${error.message}`}${next}${good}`]
}

export const count = (number: number, one: string, several: string): string =>
  number === 0 ? '' : `${number} ${number === 1 ? one : several}`

const formatSeconds = (ms: number): string => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : formatLength(ms))

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '/'
