import { Cron } from 'croner'
import { AgentError } from '../core/index.ts'

/** The moments of cron expressions, ms since 1970. Asked with rising moments by thousands of VMs, so that what was computed is kept. */
export interface CronMoments {
  /** The newest moment not later than `at` and later than `after`. */
  newest(at: number, after: number): number | undefined
  /** The first moment later than `after`; undefined when there is none at all. */
  next(after: number): number | undefined
}

/** Kept moments; the oldest half is forgotten beyond that. Hourly ones reach a year and more. */
const MOST_KEPT = 20_000

/**
 * Five fields each (minute, hour, day, month, weekday), as cron(5) reads them, with `L` and `5#2`, or `@daily` and the like. When a clock is set forward over a
 * moment it comes at the end of the gap, when it is set back it comes once. USAGE naming the expression.
 */
export function createCronMoments(expressions: readonly string[], timeZone: string): CronMoments {
  const all = expressions.map((text) => moments(parseCron(text, timeZone)))
  const those = (of: (each: CronMoments) => number | undefined): readonly number[] => all.map(of).filter((at) => at !== undefined)
  return {
    newest: (at, after) => {
      const found = those((each) => each.newest(at, after))
      return found.length === 0 ? undefined : Math.max(...found)
    },
    next: (after) => {
      const found = those((each) => each.next(after))
      return found.length === 0 ? undefined : Math.min(...found)
    },
  }
}

function parseCron(text: string, timeZone: string): Cron {
  const wrong = (why: string, cause?: unknown): AgentError =>
    new AgentError('USAGE', `"${text}" says no moments: ${why}.`, {
      subject: text,
      next: 'Write five fields, minute hour day month weekday: "0 22 * * 1-5" is 22:00 from Monday to Friday.',
      cause,
    })
  let cron: Cron
  try {
    cron = new Cron(text, { timezone: timeZone, mode: '5-part', paused: true })
  } catch (error) {
    throw wrong(error instanceof Error ? error.message.replace(/^CronPattern: /, '').replace(/[.]$/, '') : String(error), error)
  }
  if (cron.nextRun(new Date(0)) === null) throw wrong('there is no such day')
  return cron
}

function moments(cron: Cron): CronMoments {
  /** Rising and gapless from `from` on. */
  let known: number[] = []
  let from = Number.POSITIVE_INFINITY
  let complete = false
  const restart = (at: number): void => {
    known = []
    from = at
    complete = false
  }
  const grow = (past: number): void => {
    while (!complete && (known.at(-1) ?? from) <= past) {
      const next = cron.nextRun(new Date(known.at(-1) ?? from))
      if (next === null) complete = true
      else known.push(next.getTime())
      if (known.length > MOST_KEPT) {
        from = known[MOST_KEPT / 2 - 1] ?? from
        known = known.slice(MOST_KEPT / 2)
      }
    }
  }
  /** How many of `known` are not later than `at`. */
  const upTo = (at: number): number => {
    let [low, high] = [0, known.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((known[middle] ?? 0) <= at) low = middle + 1
      else high = middle
    }
    return low
  }
  return {
    newest: (at, after) => {
      if (after >= at) return undefined
      if (after < from) restart(after)
      grow(at)
      const found = known[upTo(at) - 1]
      return found !== undefined && found > after ? found : undefined
    },
    next: (after) => {
      if (after < from) restart(after)
      grow(after)
      return known[upTo(after)]
    },
  }
}
