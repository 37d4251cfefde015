import { z } from 'zod'
import { AgentError, ERROR_CODES, type ErrorCode } from '../../core/index.ts'
import { createCalendar, createDuePlanner, type FullRule, type JobSchedule } from '../../schedule/index.ts'
import { closest } from './closest.ts'
import { checkedBy, listOf, readBy } from './list-of.ts'
import { duration } from './quantity.ts'
import { parseBlackout, parseWindow } from './windows.ts'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
/** Nobody waits longer for the next full backup or the next good point. */
const LONGEST_MS = 366 * DAY_MS

/** A zone decides when; whether the fields are sound it does not. */
const cron = checkedBy((text) => createDuePlanner('check', { ...NEVER, cron: [text] }))

const NEVER: JobSchedule = {
  timeZone: 'UTC',
  cron: [],
  rpoMs: undefined,
  full: 'first',
  windows: [],
  blackouts: [],
  priority: 0,
  retry: { attempts: 0, delayMs: 0, on: [] },
}

export const timeZone = readBy((text) => {
  try {
    createCalendar(text)
    return text
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const meant = closest(text, [...Intl.supportedValuesOf('timeZone'), 'UTC'])
    throw new AgentError('USAGE', `"${text}" is not a time zone${meant === undefined ? '.' : `; did you mean "${meant}"?`}`, {
      next: 'Write it like Europe/Berlin, UTC or +05:45.',
      cause: error,
    })
  }
})

const full = z.union(
  [z.enum(['first', 'always']), z.strictObject({ cron: listOf(cron) }), z.strictObject({ every: duration(MINUTE_MS, LONGEST_MS) })],
  { error: 'it is first, always, { cron: "0 22 * * 6" } or { every: 7d }' },
)

/** What a run may fail with. */
const CAUSES = (Object.keys(ERROR_CODES) as ErrorCode[]).filter((code) => code !== 'PARTIAL')

/** When its VMs are backed up; docs/schedule.md. */
export const scheduleKeys = {
  timeZone: timeZone.optional(),
  cron: listOf(cron).optional(),
  rpo: duration(MINUTE_MS, LONGEST_MS).optional(),
  full: full.optional(),
  windows: listOf(readBy(parseWindow)).optional(),
  blackouts: listOf(readBy(parseBlackout)).optional(),
  priority: z.int().min(-1000).max(1000).optional(),
  retry: z
    .strictObject({
      attempts: z.int().min(0).max(20).optional(),
      delay: duration(1000, DAY_MS).optional(),
      on: listOf(z.enum(CAUSES)).optional(),
    })
    .optional(),
} as const

type ScheduleFile = z.output<z.ZodObject<typeof scheduleKeys>>

/** Failures that pass by themselves. */
const RETRIED: readonly ErrorCode[] = ['UNAVAILABLE', 'CONFLICT', 'CAPACITY']
export const DEFAULT_RETRY = { attempts: 2, delay: 10 * MINUTE_MS, on: RETRIED } as const

export function scheduleOf(file: ScheduleFile): JobSchedule {
  return Object.freeze({
    timeZone: file.timeZone ?? Temporal.Now.timeZoneId(),
    cron: file.cron ?? [],
    rpoMs: file.rpo,
    full: fullOf(file.full),
    windows: file.windows ?? [],
    blackouts: file.blackouts ?? [],
    priority: file.priority ?? 0,
    retry: Object.freeze({
      attempts: file.retry?.attempts ?? DEFAULT_RETRY.attempts,
      delayMs: file.retry?.delay ?? DEFAULT_RETRY.delay,
      on: file.retry?.on ?? DEFAULT_RETRY.on,
    }),
  })
}

function fullOf(file: ScheduleFile['full']): FullRule {
  if (file === undefined) return 'first'
  return typeof file === 'object' && 'every' in file ? { everyMs: file.every } : file
}
