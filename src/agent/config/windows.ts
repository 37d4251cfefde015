import { AgentError } from '../../core/index.ts'
import type { Blackout, Weekday, Window } from '../../schedule/index.ts'
import { closest } from './closest.ts'

const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const
const SHORT = DAYS.map((name) => name.slice(0, 3))
const MINUTES_OF_DAY = 1440

/**
 * A window as `vcb.yaml` writes it: days, hours, or both. `mon-fri 22:00-06:00`, `sat,sun` (all day), `22:00-06:00` (every day), `fri-mon 00:00-24:00`.
 * USAGE with what is wrong.
 */
export function parseWindow(text: string): Window {
  const trimmed = text
    .trim()
    .toLowerCase()
    .replaceAll(/\s*([-,])\s*/gu, '$1')
  const [, dayText, hourText] = /^([a-z,-]+)?(?:(?:^|\s+)(\d[\d:]*-\d[\d:]*))?$/u.exec(trimmed) ?? []
  if (dayText === undefined && hourText === undefined) throw wrongWindow(text, 'it is days, hours or both')
  const days = dayText === undefined ? ALL : parseDays(text, dayText)
  const [from, to] = hourText === undefined ? [0, MINUTES_OF_DAY] : parseHours(text, hourText)
  return { days, from, to }
}

const ALL: readonly Weekday[] = [1, 2, 3, 4, 5, 6, 7]

function parseDays(text: string, list: string): readonly Weekday[] {
  const days = new Set<Weekday>()
  for (const part of list.split(',')) {
    const [first = '', last = first, more] = part.split('-')
    if (more !== undefined) throw wrongWindow(text, `"${part}" is no stretch of days`)
    const [from, to] = [dayOf(text, first), dayOf(text, last)]
    // fri-mon goes over the end of the week.
    for (let day = from; ; day = ((day % 7) + 1) as Weekday) {
      days.add(day)
      if (day === to) break
    }
  }
  return ALL.filter((day) => days.has(day))
}

function dayOf(text: string, name: string): Weekday {
  const index = SHORT.indexOf(name)
  const found = index >= 0 ? index : (DAYS as readonly string[]).indexOf(name)
  if (found >= 0) return (found + 1) as Weekday
  const meant = closest(name, [...SHORT, ...DAYS])
  throw wrongWindow(text, `"${name}" is no day${meant === undefined ? '' : `; did you mean "${meant}"?`}`)
}

function parseHours(text: string, hours: string): readonly [number, number] {
  const [fromText = '', toText = ''] = hours.split('-')
  const [from, to] = [minutesOf(text, fromText), minutesOf(text, toText)]
  if (from === MINUTES_OF_DAY) throw wrongWindow(text, 'it begins at 24:00')
  if (from === to) throw wrongWindow(text, 'it ends when it begins; the whole day is 00:00-24:00')
  return [from, to === 0 ? MINUTES_OF_DAY : to]
}

function minutesOf(text: string, time: string): number {
  const match = /^(\d\d?):(\d\d)$/u.exec(time)
  const minutes = Number(match?.[1]) * 60 + Number(match?.[2])
  if (match !== null && Number(match[2]) < 60 && minutes <= MINUTES_OF_DAY) return minutes
  throw wrongWindow(text, `"${time}" is no time of day`)
}

const wrongWindow = (text: string, why: string): AgentError =>
  new AgentError('USAGE', `"${text}" is not a window: ${why}${why.endsWith('?') ? '' : '.'}`, {
    subject: text,
    next: 'Write it like "mon-fri 22:00-06:00", "sat,sun" or "22:00-06:00".',
  })

/** As `parseWindow` reads it back. */
export function formatWindow({ days, from, to }: Window): string {
  const hours = from === 0 && to === MINUTES_OF_DAY ? '' : `${timeOf(from)}-${timeOf(to)}`
  const names = days.length === 7 ? '' : stretches(days).join(',')
  return names === '' && hours === '' ? 'mon-sun' : [names, hours].filter((part) => part !== '').join(' ')
}

function stretches(days: readonly Weekday[]): readonly string[] {
  const begins = days.filter((day) => !days.includes((day - 1) as Weekday))
  return begins.map((first) => {
    let last: number = first
    while (days.includes((last + 1) as Weekday)) last++
    const [from, to] = [SHORT[first - 1] ?? '', SHORT[last - 1] ?? '']
    return first === last ? from : last === first + 1 ? `${from},${to}` : `${from}-${to}`
  })
}

const timeOf = (minutes: number): string => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`

/** `2026-12-24` (the whole day), `2026-12-24 to 2026-12-26` (the last one too), `2026-12-24T18:00 to 2026-12-26T08:00` (the last moment is open). USAGE. */
export function parseBlackout(text: string): Blackout {
  const [first = '', last = first, more] = text.trim().split(/\s+to\s+/u)
  if (more !== undefined) throw wrongBlackout(text, 'it has more than two ends')
  const [from, to] = [momentOf(text, first, false), momentOf(text, last, true)]
  if (Temporal.PlainDateTime.compare(from, to) >= 0) throw wrongBlackout(text, 'it ends before it begins')
  return { from: from.toString({ smallestUnit: 'minute' }), to: to.toString({ smallestUnit: 'minute' }) }
}

function momentOf(text: string, moment: string, ends: boolean): Temporal.PlainDateTime {
  const form = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d)?$/u.exec(moment)
  try {
    if (form === null) throw new RangeError(moment)
    if (form[1] !== undefined) return Temporal.PlainDateTime.from(moment.replace(' ', 'T'), { overflow: 'reject' })
    const day = Temporal.PlainDate.from(moment, { overflow: 'reject' })
    return (ends ? day.add({ days: 1 }) : day).toPlainDateTime()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw wrongBlackout(text, `"${moment}" is no date`)
  }
}

const wrongBlackout = (text: string, why: string): AgentError =>
  new AgentError('USAGE', `"${text}" is not a blackout: ${why}.`, {
    subject: text,
    next: 'Write it like "2026-12-24 to 2026-12-26" or "2026-12-24T18:00 to 2026-12-27T08:00", in the time zone of the job.',
  })
