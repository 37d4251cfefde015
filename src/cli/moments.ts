import { AgentError } from '../core/index.ts'

export { formatLength, formatMoment } from '../core/index.ts'

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
