import { formatBytes, printable, type RunRecord } from '../core/index.ts'
import type { Notice } from './notice.ts'
import { tookMs } from './report.ts'
import { summaryOf } from './report-sections.ts'

/** RFC 5424, section 6.2.1. */
export const FACILITIES = {
  kern: 0,
  user: 1,
  mail: 2,
  daemon: 3,
  auth: 4,
  syslog: 5,
  local0: 16,
  local1: 17,
  local2: 18,
  local3: 19,
  local4: 20,
  local5: 21,
  local6: 22,
  local7: 23,
} as const
export type Facility = keyof typeof FACILITIES

const SEVERITIES = { error: 3, warning: 4, info: 6 } as const
export const severityNumber = ({ severity }: Notice): number => SEVERITIES[severity]

/** The number that RFC 5612 keeps for documents: this project has none of its own. */
const SD_ID = 'vcb@32473'

/** The parts of a message beside facility, host and process. */
export type SyslogParts = { readonly msgid: string; readonly data: readonly (readonly [string, string])[]; readonly text: string }

/** A single run with its names and figures as structured data; anything else as counts. */
export function syslogParts(notice: Notice): SyslogParts {
  const { kind, id, headline, report } = notice
  const { counts } = report
  const record = onlyRun(notice)
  const data: readonly (readonly [string, string])[] =
    record === undefined
      ? [
          ['notice', id],
          ['failed', String(counts.failed)],
          ['succeeded', String(counts.succeeded)],
          ['unselected', String(counts.unselected)],
          ['overdue', String(counts.overdue)],
          ['problems', String(counts.problems)],
          ['leftOut', String(counts.leftOut)],
        ]
      : [
          ['notice', id],
          ['run', record.run],
          ['vm', record.vm.name],
          ['uuid', record.vm.instanceUuid],
          ['job', record.job ?? ''],
          ['result', record.result],
          ['code', record.error?.code ?? ''],
          ['mode', record.mode ?? ''],
          ['durationMs', String(tookMs(record))],
          ['readBytes', String(record.readBytes)],
          ['storedBytes', String(record.storedBytes)],
        ]
  const text = record === undefined ? `${headline}: ${summaryOf(report)}` : `${headline}: ${runText(record)}`
  return { msgid: record?.result ?? kind, data: data.map(([name, value]) => [name, shownValue(value)] as const), text: printable(text) }
}

function runText({ error, readBytes, storedBytes, warnings, notProtected }: RunRecord): string {
  if (error !== undefined) return `${error.message}${error.next === undefined ? '' : ` ${error.next}`}`
  const left = notProtected.map(({ what, reason }) => `${what} is left out: ${reason}`)
  return [`${formatBytes(readBytes)} read, ${formatBytes(storedBytes)} stored`, ...left, ...warnings].join('; ')
}

function onlyRun({ kind, report: { failed, canceled, succeeded, counts } }: Notice): RunRecord | undefined {
  const runs = [...failed.map(({ record }) => record), ...canceled, ...succeeded]
  return kind === 'runs' && runs.length === 1 && counts.overdue + counts.problems === 0 ? runs[0] : undefined
}

export type SyslogFrame = { readonly facility: Facility; readonly host: string; readonly pid: number; readonly mostBytes: number }

/** One message as RFC 5424 writes it, in UTF-8, cut between two characters where it would be longer than `mostBytes`. */
export function syslogMessage(notice: Notice, { facility, host, pid, mostBytes }: SyslogFrame): Buffer {
  const { msgid, data, text } = syslogParts(notice)
  const priority = FACILITIES[facility] * 8 + severityNumber(notice)
  const structured = `[${SD_ID}${data.map(([name, value]) => ` ${name}="${parameter(value)}"`).join('')}]`
  const line = `<${priority}>1 ${notice.at} ${headerWord(host, 255)} vcb ${pid} ${headerWord(msgid, 32)} ${structured} ${text}`
  return cut(Buffer.from(line, 'utf8'), mostBytes)
}

/** Without control characters, and cut so that the message around it stays whole. */
const shownValue = (text: string): string => Array.from(printable(text)).slice(0, 128).join('')

/** PARAM-VALUE: `"`, `\` and `]` are escaped (section 6.3.3). */
export const parameter = (text: string): string => text.replaceAll(/["\\\]]/gu, String.raw`\$&`)

const headerWord = (text: string, most: number): string => text.replaceAll(/[^\u0021-\u007e]/gu, '_').slice(0, most) || '-'

function cut(bytes: Buffer, most: number): Buffer {
  if (bytes.length <= most) return bytes
  let end = most
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
