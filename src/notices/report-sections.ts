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
const MOST_ROWS = 500

/** What is not protected first, then what is. Parts with nothing in them are left out. */
export function sectionsOf(report: Report): readonly Section[] {
  const { timeZone, notProtected } = report
  const moment = (at: string | Date): string => formatMoment(new Date(at), timeZone)
  const until = Date.parse(report.until)
  const all: readonly Section[] = [
    section(
      'Not known',
      true,
      ['What could not be found out'],
      (notProtected?.unknown ?? []).map((sentence) => [sentence]),
    ),
    section(
      'VMs in no job',
      true,
      ['VM', 'Folder'],
      (notProtected?.unselected ?? []).map(({ name, path }) => [name, folderOf(path)]),
    ),
    section(
      'Last good point too old',
      true,
      ['VM', 'Last good point', 'Age', 'Allowed', 'Jobs'],
      (notProtected?.overdue ?? []).map(({ vm, lastGoodAt, allowedAgeMs, hasRpo, jobs }) => [
        vm.name,
        lastGoodAt === undefined ? 'none' : moment(lastGoodAt),
        lastGoodAt === undefined ? '-' : formatLength(until - lastGoodAt.getTime()),
        `${formatLength(allowedAgeMs)}${hasRpo ? '' : ' (no RPO)'}`,
        jobs.join(', '),
      ]),
    ),
    section(
      'Left out of the last point',
      true,
      ['VM', 'Disk', 'Reason'],
      report.leftOut.map(({ vm, what, reason }) => [vm.name, what, reason]),
    ),
    section(
      'Failed runs',
      true,
      ['VM', 'Job', 'Begun', 'Took', 'What happened, and what to do'],
      report.failed.map((failed) => failedRow(failed, moment)),
    ),
    section(
      'Canceled runs',
      false,
      ['VM', 'Job', 'Begun', 'Took', 'By whom'],
      report.canceled.map((record) => [...runCells(record, moment), record.error?.message ?? '']),
    ),
    section(
      'Warnings',
      false,
      ['VM', 'Job', 'Warning'],
      report.succeeded.flatMap(({ vm, job, warnings }) => warnings.map((warning) => [vm.name, job ?? '-', warning])),
    ),
    section(
      'Succeeded',
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
  return all.filter(({ rows }) => rows.length > 0)
}

/** One sentence: `1 VM in no job, 2 runs failed; 14 runs succeeded, 12.0 GiB read, 3.1 GiB stored.` */
export function summaryOf({ notProtected, leftOut, failed, canceled, succeeded, totals }: Report): string {
  const bad = [
    count(notProtected?.unknown.length ?? 0, 'thing could not be found out', 'things could not be found out'),
    count(notProtected?.unselected.length ?? 0, 'VM in no job', 'VMs in no job'),
    count(
      notProtected?.overdue.length ?? 0,
      'VM without a good point that is young enough',
      'VMs without a good point that is young enough',
    ),
    count(leftOut.length, 'disk left out', 'disks left out'),
    count(failed.length, 'run failed', 'runs failed'),
    count(canceled.length, 'run canceled', 'runs canceled'),
  ].filter((part) => part !== '')
  const good =
    succeeded.length === 0
      ? 'no run succeeded'
      : `${count(succeeded.length, 'run', 'runs')} succeeded, ${formatBytes(totals.readBytes)} read, ${formatBytes(totals.storedBytes)} stored`
  return `${bad.length === 0 ? '' : `${bad.join(', ')}; `}${good}.`
}

/** `2026-11-25 07:00 to 2026-11-26 07:00 (Europe/Berlin)` */
export function periodOf({ since, until, timeZone }: Report): string {
  const end = formatMoment(new Date(until), timeZone)
  return `${since === undefined ? end : `${formatMoment(new Date(since), timeZone)} to ${end}`} (${timeZone})`
}

function section(title: string, alarming: boolean, head: readonly string[], rows: readonly (readonly string[])[]): Section {
  return { title: `${title} (${rows.length})`, alarming, head, rows: rows.slice(0, MOST_ROWS), more: Math.max(0, rows.length - MOST_ROWS) }
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

const count = (number: number, one: string, several: string): string => (number === 0 ? '' : `${number} ${number === 1 ? one : several}`)

const formatSeconds = (ms: number): string => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : formatLength(ms))

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '/'
