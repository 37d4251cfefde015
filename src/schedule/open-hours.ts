import { AgentError } from '../core/index.ts'
import type { Blackout, Window } from './job-schedule.ts'

/** When runs may begin. Asked with rising moments by thousands of VMs. */
export interface OpenHours {
  /** When it closes, if it is open at `at`; Infinity where nothing ever closes; undefined when it is closed. */
  closes(at: number): number | undefined
  /** The first open moment not before `at`; undefined when none is in the year after. */
  opens(at: number): number | undefined
  /** The end of the last open stretch that ended not later than `at`, looking back two weeks; undefined when there is none. */
  lastClosed(at: number): { readonly from: number; readonly to: number } | undefined
}

type Stretch = { readonly from: number; readonly to: number }

const DAY_MS = 24 * 3_600_000
/** How much is laid out at once. */
const STEP_DAYS = 64
const YEAR_DAYS = 366
const BACK_DAYS = 14
const SPARE_DAYS = 16
const MINUTES_OF_DAY = 1440

/**
 * Windows less blackouts, by the clock on the wall of a time zone: from 22:00 to 02:30 in the night a clock is set back is an hour longer. A moment that is
 * skipped when a clock is set forward counts as the first one after the gap. No windows = always open but for the blackouts. USAGE for times that are none.
 */
export function createOpenHours(windows: readonly Window[], blackouts: readonly Blackout[], timeZone: string): OpenHours {
  const closed = blackouts.map((each) => blackoutOf(each, timeZone)).sort((a, b) => a.from - b.from)
  if (windows.length === 0 && closed.length === 0) {
    return { closes: () => Number.POSITIVE_INFINITY, opens: (at) => at, lastClosed: () => undefined }
  }
  /** Laid out without gaps from `from` to `to`, rising, none touching the next. */
  let laid: { from: number; to: number; stretches: readonly Stretch[] } | undefined
  const layOut = (at: number, days: number): readonly Stretch[] => {
    const [from, to] = [at - (BACK_DAYS + 2) * DAY_MS, at + (days + 2) * DAY_MS]
    if (laid === undefined || from < laid.from || to > laid.to) {
      // Room on both sides: the next VM asks about a moment a little earlier or later.
      const [begin, end] = [from - SPARE_DAYS * DAY_MS, Math.max(to, at + STEP_DAYS * DAY_MS)]
      laid = { from: begin, to: end, stretches: without(joined(opened(windows, timeZone, begin, end)), closed) }
    }
    return laid.stretches
  }
  const firstAfter = (stretches: readonly Stretch[], at: number): Stretch | undefined => {
    let [low, high] = [0, stretches.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((stretches[middle]?.to ?? 0) <= at) low = middle + 1
      else high = middle
    }
    return stretches[low]
  }
  return {
    closes: (at) => {
      const found = firstAfter(layOut(at, BACK_DAYS), at)
      if (found === undefined || found.from > at) return undefined
      // What reaches the end of what was laid out goes on behind it; nobody needs to know for how long.
      return found.to >= (laid?.to ?? 0) - DAY_MS ? Number.POSITIVE_INFINITY : found.to
    },
    opens: (at) => {
      const found = firstAfter(layOut(at, BACK_DAYS), at) ?? firstAfter(layOut(at, YEAR_DAYS), at)
      return found === undefined ? undefined : Math.max(found.from, at)
    },
    lastClosed: (at) => layOut(at, BACK_DAYS).findLast(({ to }) => to <= at),
  }
}

function opened(windows: readonly Window[], timeZone: string, from: number, to: number): Stretch[] {
  if (windows.length === 0) return [{ from, to }]
  const first = Temporal.Instant.fromEpochMilliseconds(from).toZonedDateTimeISO(timeZone).toPlainDate().subtract({ days: 2 })
  const days = Math.ceil((to - from) / DAY_MS) + 4
  return Array.from({ length: days }, (_, index) => first.add({ days: index })).flatMap((day) =>
    windows
      .filter((window) => window.days.some((weekday) => weekday === day.dayOfWeek))
      .map((window) => ({
        from: momentOf(day, window.from, timeZone),
        to: momentOf(window.to <= window.from ? day.add({ days: 1 }) : day, window.to, timeZone),
      })),
  )
}

function momentOf(day: Temporal.PlainDate, minutes: number, timeZone: string): number {
  const date = minutes === MINUTES_OF_DAY ? day.add({ days: 1 }) : day
  const minute = minutes % MINUTES_OF_DAY
  return date.toZonedDateTime({ timeZone, plainTime: { hour: Math.floor(minute / 60), minute: minute % 60 } }).epochMilliseconds
}

function joined(stretches: Stretch[]): Stretch[] {
  const result: Stretch[] = []
  for (const each of stretches.sort((a, b) => a.from - b.from)) {
    const last = result.at(-1)
    if (each.to <= each.from) continue
    if (last !== undefined && each.from <= last.to) result[result.length - 1] = { from: last.from, to: Math.max(last.to, each.to) }
    else result.push(each)
  }
  return result
}

/** `closed` rising by its beginnings; overlapping ones are no matter. */
function without(open: readonly Stretch[], closed: readonly Stretch[]): readonly Stretch[] {
  return closed.reduce<readonly Stretch[]>(
    (left, hole) =>
      left.flatMap((each) =>
        hole.to <= each.from || hole.from >= each.to
          ? [each]
          : [
              { from: each.from, to: hole.from },
              { from: hole.to, to: each.to },
            ].filter(({ from, to }) => from < to),
      ),
    open,
  )
}

function blackoutOf({ from, to }: Blackout, timeZone: string): Stretch {
  const [begin, end] = [localMoment(from, timeZone), localMoment(to, timeZone)]
  if (begin < end) return { from: begin, to: end }
  throw new AgentError('USAGE', `The blackout from ${from} to ${to} ends before it begins.`, { subject: from })
}

function localMoment(text: string, timeZone: string): number {
  try {
    return Temporal.PlainDateTime.from(text).toZonedDateTime(timeZone).epochMilliseconds
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AgentError('USAGE', `"${text}" is not a date and time.`, {
      subject: text,
      next: 'Write it like 2026-12-24T00:00, without an offset: it is read in the time zone of the schedule.',
      cause: error,
    })
  }
}
