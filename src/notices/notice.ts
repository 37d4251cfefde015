import type { Report } from './report.ts'

/** What somebody may want to be told of; a canceled run, and a good point that lacks something, are warnings. */
export const NOTICE_EVENTS = ['failure', 'success', 'warning', 'missedRpo'] as const
export type NoticeEvent = (typeof NOTICE_EVENTS)[number]

/** One message to one channel. Plain data. */
export type Notice = {
  /** The same at every attempt, so that a receiver knows one that comes twice. */
  readonly id: string
  readonly kind: 'runs' | 'digest' | 'test'
  /** When it was made, ISO 8601. */
  readonly at: string
  /** The worst of what it tells. */
  readonly severity: 'error' | 'warning' | 'info'
  /** One line, without the names of strangers unescaped: the subject of a mail. */
  readonly headline: string
  readonly report: Report
}
