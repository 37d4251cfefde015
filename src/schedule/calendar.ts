import { AgentError } from '../core/index.ts'

/** The periods of a time zone that a moment lies in. Equal text = same period. */
export type Periods = {
  /** `2026-10-25 02h +02:00`: with the offset, because the hour a clock is set back happens twice. */
  readonly hourly: string
  /** `2026-10-25` */
  readonly daily: string
  /** ISO 8601 week, `2026-W43`; its year is the week's own. */
  readonly weekly: string
  /** `2026-10` */
  readonly monthly: string
  /** `2026` */
  readonly yearly: string
}

/** Clock times of one time zone. */
export interface Calendar {
  /** As resolved: `Europe/Berlin`, `UTC`. */
  readonly timeZone: string
  /** `at`: ms since 1970, a valid `Date`. Results are kept, so that planning again costs a look-up. */
  periodsOf(at: number): Periods
}

/** Moments whose periods are remembered; far more than a VM has points. */
const MOST_REMEMBERED = 100_000

/** A calendar of an IANA time zone or an offset like `+02:00`. USAGE for one that does not exist. */
export function createCalendar(timeZone: string): Calendar {
  const known = new Map<number, Periods>()
  const zone = resolveZone(timeZone)
  return {
    timeZone: zone,
    periodsOf: (at) => {
      const found = known.get(at)
      if (found !== undefined) return found
      if (known.size >= MOST_REMEMBERED) known.clear()
      const periods = periodsIn(zone, at)
      known.set(at, periods)
      return periods
    },
  }
}

function resolveZone(timeZone: string): string {
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(timeZone).timeZoneId
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AgentError('USAGE', `"${timeZone}" is not a time zone.`, {
      subject: timeZone,
      next: 'Give one like Europe/Berlin, UTC or +02:00.',
      cause: error,
    })
  }
}

function periodsIn(zone: string, at: number): Periods {
  const local = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(zone)
  const two = (number: number): string => String(number).padStart(2, '0')
  const yearly = String(local.year).padStart(4, '0')
  const monthly = `${yearly}-${two(local.month)}`
  const daily = `${monthly}-${two(local.day)}`
  return {
    hourly: `${daily} ${two(local.hour)}h ${local.offset}`,
    daily,
    weekly: `${String(local.yearOfWeek ?? local.year).padStart(4, '0')}-W${two(local.weekOfYear ?? 0)}`,
    monthly,
    yearly,
  }
}
