import { AgentError } from '../core/index.ts'

/** How far back, as people say it: calendar years and months, days of 24 hours, hours. Whole numbers, none negative. */
export type Span = { readonly years: number; readonly months: number; readonly days: number; readonly hours: number }

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Ten thousand years: more is a slip of the keyboard. */
const MOST_DAYS = 3_652_500

/** Reads `14d`, `1y6m`, `2w3d12h`: y years, m months, w weeks, d days, h hours, each at most once. USAGE for anything else. */
export function parseSpan(text: string): Span {
  const found = new Map<string, number>()
  const trimmed = text.trim()
  const wrong = (why: string): AgentError =>
    new AgentError('USAGE', `"${text}" is not a duration: ${why}.`, {
      subject: text,
      next: 'Write it like 14d, 1y6m or 12h (y, m, w, d, h).',
    })
  if (!/^(?:\d+[ymwdh])+$/u.test(trimmed)) throw wrong('it is numbers, each with y, m, w, d or h after it')
  for (const [, digits = '', unit = ''] of trimmed.matchAll(/(\d+)([ymwdh])/gu)) {
    if (found.has(unit)) throw wrong(`${unit} is there twice`)
    found.set(unit, Number(digits))
  }
  const of = (unit: string): number => found.get(unit) ?? 0
  const span = { years: of('y'), months: of('m'), days: of('w') * 7 + of('d'), hours: of('h') }
  if (span.years * 366 + span.months * 31 + span.days + span.hours / 24 > MOST_DAYS) throw wrong('it is longer than any backup lives')
  return span
}

/** `1y6m14d`; `0h` for none. */
export function formatSpan(span: Span): string {
  const parts = [`${span.years}y`, `${span.months}m`, `${span.days}d`, `${span.hours}h`].filter((part) => !part.startsWith('0'))
  return parts.join('') || '0h'
}

/**
 * The moment (ms) a span before another, in UTC. Never later for an earlier `from`, which the clipping of month ends would break: where the
 * month reached has no such day, it is the beginning of the month after it (31 March less a month = 1 March, 00:00).
 */
export function spanBefore(from: number, span: Span): number {
  const at = new Date(from)
  const months = at.getUTCFullYear() * 12 + at.getUTCMonth() - span.years * 12 - span.months
  const day = at.getUTCDate()
  const year = Math.floor(months / 12)
  const month = months - year * 12
  const missing = day > daysIn(year, month)
  const midnight = missing ? utc(year, month + 1, 1) : utc(year, month, day)
  return midnight + (missing ? 0 : from - utc(at.getUTCFullYear(), at.getUTCMonth(), day)) - span.days * DAY_MS - span.hours * HOUR_MS
}

const daysIn = (year: number, month: number): number => new Date(utc(year, month + 1, 0)).getUTCDate()

/** `Date.UTC`, without its taking the years 0 to 99 for 1900 to 1999. */
function utc(year: number, month: number, day: number): number {
  return new Date(0).setUTCFullYear(year, month, day)
}
