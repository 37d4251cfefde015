import { AgentError } from '../core/index.ts'

/** A moment as flags write it: `now`, `2026-12-24`, `2026-12-24T22:00`, with or without an offset (the zone's when absent), or `7d` after `base`. USAGE. */
export function parseMoment(flag: string, text: string, zone: string, base: Date): Date {
  const trimmed = text.trim()
  if (trimmed === 'now') return base
  const span = /^\+?(\d+)([hdw])$/u.exec(trimmed)
  try {
    if (span !== null) return new Date(new Date(base.getTime() + Number(span[1]) * (SPAN_MS[span[2] ?? ''] ?? Number.NaN)).toISOString())
    if (/(?:Z|[+-]\d\d:?\d\d)$/u.test(trimmed) && trimmed.includes('T')) return new Date(Temporal.Instant.from(trimmed).epochMilliseconds)
    return new Date(Temporal.PlainDateTime.from(trimmed, { overflow: 'reject' }).toZonedDateTime(zone).epochMilliseconds)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AgentError('USAGE', `The value of ${flag} is wrong: "${text}" is not a moment.`, {
      subject: text,
      next: 'Write it like 2026-12-24, 2026-12-24T22:00, 2026-12-24T22:00+01:00, or 7d.',
      cause: error,
    })
  }
}

const SPAN_MS: Readonly<Record<string, number>> = { h: 3_600_000, d: 24 * 3_600_000, w: 7 * 24 * 3_600_000 }

/** `2026-12-24 22:00`, by the clock on the wall. */
export function formatMoment(at: Date | number, zone: string): string {
  const local = Temporal.Instant.fromEpochMilliseconds(typeof at === 'number' ? at : at.getTime()).toZonedDateTimeISO(zone)
  return `${local.toPlainDate().toString()} ${local.toPlainTime().toString({ smallestUnit: 'minute' })}`
}

/** `2 d 3 h`, `45 min`: the two largest units. */
export function formatLength(ms: number): string {
  const minutes = Math.round(ms / 60_000)
  const parts = [
    [Math.floor(minutes / 1440), 'd'],
    [Math.floor(minutes / 60) % 24, 'h'],
    [minutes % 60, 'min'],
  ] as const
  const first = parts.findIndex(([count]) => count > 0)
  if (first < 0) return `${Math.round(ms / 1000)} s`
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ')
}
