import type { RunRecord } from '../core/index.ts'
import type { JobProblem } from './coverage.ts'
import type { NoticeEvent } from './notice.ts'
import type { OverdueVm, Report } from './report.ts'
import { MOST_ROWS } from './report-sections.ts'

/** Something that a channel is to tell, as it waits on disk. Plain data; `version` is that of its form. */
export type Occurrence = { readonly version: 1; readonly id: string; readonly at: string } & (
  | { readonly kind: 'run'; readonly event: NoticeEvent; readonly record: RunRecord }
  | { readonly kind: 'missedRpo'; readonly vm: OverdueVm }
  | { readonly kind: 'job'; readonly problem: JobProblem }
  | { readonly kind: 'digest'; readonly report: Report }
)

/** What a run is to those who are told of it. */
export function eventOf({ result, warnings, notProtected }: RunRecord): NoticeEvent {
  if (result === 'failed') return 'failure'
  if (result === 'canceled') return 'warning'
  return warnings.length + notProtected.length > 0 ? 'warning' : 'success'
}

/** Characters of one text, and entries of a list within a run, that are kept. */
const MOST_TEXT = 1000
const MOST_WITHIN = 20
const WITHIN: ReadonlySet<string> = new Set(['warnings', 'notProtected'])

/** As JSON, in a size that can be kept and sent whatever servers and guests said: longer texts and lists are cut; the counts of a report stay. */
export const occurrenceText = (occurrence: Occurrence): string =>
  JSON.stringify(occurrence, (key, value: unknown) => {
    if (typeof value === 'string') return value.length > MOST_TEXT ? `${value.slice(0, MOST_TEXT).toWellFormed()}…` : value
    return Array.isArray(value) ? value.slice(0, WITHIN.has(key) ? MOST_WITHIN : MOST_ROWS) : value
  })
