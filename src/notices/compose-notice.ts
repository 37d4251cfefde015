import { printable, type VmRef } from '../core/index.ts'
import type { Notice } from './notice.ts'
import type { Occurrence } from './occurrence.ts'
import { createReport, needsAttention, type Report } from './report.ts'
import { count } from './report-sections.ts'

const MOST_NAME = 120

export type ComposeOptions = {
  readonly proxy: string
  readonly timeZone: string
  readonly at: Date
  /** Notices of this channel that were given up since the last one that arrived. */
  readonly dropped: number
}

/** One notice of everything that waited. At least one occurrence; a digest stands alone. */
export function composeNotice(occurrences: readonly Occurrence[], { proxy, timeZone, at, dropped }: ComposeOptions): Notice {
  const [first] = occurrences
  if (first === undefined) throw new TypeError('there is nothing to tell')
  const lost =
    dropped === 0
      ? []
      : [`${count(dropped, 'notice', 'notices')} before this one could not be delivered and ${dropped === 1 ? 'was' : 'were'} dropped.`]
  if (first.kind === 'digest') {
    const report = { ...first.report, unknown: [...lost, ...first.report.unknown] }
    const told = { ...report, counts: { ...report.counts, unknown: report.counts.unknown + lost.length } }
    return {
      id: first.id,
      kind: 'digest',
      at: first.at,
      severity: severityOf(told),
      headline: `vcb ${printable(proxy)}: ${digestHeadline(told)}`,
      report: told,
    }
  }
  const records = occurrences.flatMap((each) => (each.kind === 'run' ? [each.record] : []))
  const overdue = occurrences.flatMap((each) => (each.kind === 'missedRpo' ? [each.vm] : []))
  const problems = occurrences.flatMap((each) => (each.kind === 'job' ? [each.problem] : []))
  const made = createReport({ title: 'Backup runs', proxy, until: at, timeZone, records, overdue, problems })
  const report = { ...made, unknown: lost, counts: { ...made.counts, unknown: lost.length } }
  return {
    id: first.id,
    kind: 'runs',
    at: at.toISOString(),
    severity: severityOf(report),
    headline: `vcb ${printable(proxy)}: ${runsHeadline(report)}`,
    report,
  }
}

/** A message that says nothing but that it arrives. */
export function testNotice(id: string, { proxy, timeZone, at }: Omit<ComposeOptions, 'dropped'>): Notice {
  const report = createReport({ title: 'Test of a notice', proxy, until: at, timeZone, records: [] })
  return { id, kind: 'test', at: at.toISOString(), severity: 'info', headline: `vcb ${printable(proxy)}: test, nothing happened`, report }
}

function severityOf(report: Report): Notice['severity'] {
  const { failed, overdue, problems, canceled } = report.counts
  return failed + overdue + problems > 0 ? 'error' : needsAttention(report) || canceled > 0 ? 'warning' : 'info'
}

function runsHeadline({ counts, failed, overdue, problems, canceled, succeeded }: Report): string {
  const all = counts.failed + counts.overdue + counts.problems + counts.canceled + counts.succeeded
  if (all === 1) {
    const [one] = failed
    if (one !== undefined) return `backup of ${nameOf(one.record.vm)} failed (${one.record.error?.code ?? 'no reason known'})`
    const [late] = overdue
    if (late !== undefined) return `RPO of ${nameOf(late.vm)} missed`
    const [bad] = problems
    if (bad !== undefined) return `job ${printable(bad.job)}: ${printable(bad.what)}`
    const [ended] = [...canceled, ...succeeded]
    const warned = counts.warnings + counts.leftOut > 0 ? ' with warnings' : ''
    if (ended !== undefined) return `backup of ${nameOf(ended.vm)} ${ended.result}${warned}`
  }
  return [
    count(counts.failed, 'run failed', 'runs failed'),
    count(counts.overdue, 'RPO missed', 'RPOs missed'),
    count(counts.problems, 'job with a problem', 'jobs with problems'),
    count(counts.canceled, 'run canceled', 'runs canceled'),
    count(counts.succeeded, 'run succeeded', 'runs succeeded'),
  ]
    .filter((part) => part !== '')
    .join(', ')
}

/** For one line: as long as a name in vSphere may be, and in letters that any encoding knows. */
const nameOf = ({ name }: VmRef): string => Array.from(printable(name.toWellFormed())).slice(0, MOST_NAME).join('')

function digestHeadline(report: Report): string {
  const { counts } = report
  const unprotected = counts.unselected + counts.overdue
  const bad = [
    count(counts.unknown, 'thing not known', 'things not known'),
    count(unprotected, 'VM not protected', 'VMs not protected'),
    count(counts.problems, 'job with a problem', 'jobs with problems'),
    count(counts.leftOut, 'disk left out', 'disks left out'),
    count(counts.failed, 'run failed', 'runs failed'),
  ].filter((part) => part !== '')
  const good = count(counts.succeeded, 'run succeeded', 'runs succeeded') || 'no run succeeded'
  return [...bad, good].join(', ')
}
