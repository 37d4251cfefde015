import type { BackupMode } from '../core/index.ts'
import { createCronMoments, type CronMoments } from './cron-moments.ts'
import type { Due, JobSchedule, VmRecord } from './job-schedule.ts'
import { createOpenHours, type OpenHours } from './open-hours.ts'

/** Decides for the VMs of one job when each is backed up. Pure but for what it remembers of its calendar; one for all VMs of the job. */
export interface DuePlanner {
  readonly job: string
  /** The run that may begin now; undefined when none is due, or the window is closed. */
  due(record: VmRecord, now: number): Due | undefined
  /** The first moment after `now` when `due` may answer otherwise, if no run ends meanwhile; undefined when none is in sight. */
  next(record: VmRecord, now: number): number | undefined
  /** When the RPO is missed unless a good point comes first. */
  deadline(record: VmRecord): number | undefined
}

/** Spare time before an RPO is missed, beside half the time a run takes: a tenth of the target, and no more than this. ms */
const MOST_SPARE_MS = 3_600_000
/** So many times the lead of a run is left before the last window closes that ends in time for an RPO. */
const TRIES_IN_LAST_WINDOW = 3
/** A VM that stays without a good point is tried anew after this part of its RPO. */
const RPO_PARTS = 4
/** And not sooner than this, ms. */
const LEAST_RPO_PAUSE_MS = 15 * 60_000

/** USAGE for an expression, window or zone that is none, naming it. */
export function createDuePlanner(job: string, schedule: JobSchedule): DuePlanner {
  const { timeZone, full } = schedule
  const regular = createCronMoments(schedule.cron, timeZone)
  const fullMoments = createCronMoments(typeof full === 'object' && 'cron' in full ? full.cron : [], timeZone)
  return new Planner(job, schedule, regular, fullMoments, createOpenHours(schedule.windows, schedule.blackouts, timeZone))
}

/** A moment a run is due, whether or not the window is open. */
type Wish = { readonly at: number; readonly since: number; readonly reason: string }

class Planner implements DuePlanner {
  readonly job: string
  readonly #schedule: JobSchedule
  readonly #regular: CronMoments
  readonly #fullMoments: CronMoments
  readonly #hours: OpenHours

  constructor(job: string, schedule: JobSchedule, regular: CronMoments, fullMoments: CronMoments, hours: OpenHours) {
    this.job = job
    this.#schedule = schedule
    this.#regular = regular
    this.#fullMoments = fullMoments
    this.#hours = hours
  }

  due(record: VmRecord, now: number): Due | undefined {
    const wish = this.#newestWish(record, now)
    if (wish === undefined) return undefined
    const tried = triesSince(record, wish.at)
    if (tried > 0 && (this.#retryAt(record, tried) ?? Number.POSITIVE_INFINITY) > now) return undefined
    const openUntil = this.#hours.closes(now)
    if (openUntil === undefined) return undefined
    const [mode, whyFull] = this.#mode(record, now)
    const again = tried === 0 ? '' : `, try ${tried + 1} after ${record.runs[0]?.error ?? ''}`
    const deadline = this.deadline(record)
    const missed = wish.since < wish.at ? ', in place of earlier ones that were missed' : ''
    return {
      job: this.job,
      vm: record.vm,
      mode,
      priority: this.#schedule.priority,
      dueAt: wish.at,
      since: wish.since,
      attempt: tried + 1,
      reason: `${wish.reason}${missed}${again}${whyFull === undefined ? '' : `; full, because ${whyFull}`}`,
      deadline,
      beginBy: deadline === undefined ? undefined : deadline - (record.expectMs ?? 0),
      openUntil: openUntil === Number.POSITIVE_INFINITY ? undefined : openUntil,
    }
  }

  next(record: VmRecord, now: number): number | undefined {
    const wish = this.#newestWish(record, now)
    const tried = wish === undefined ? 0 : triesSince(record, wish.at)
    const retry = tried === 0 ? undefined : this.#retryAt(record, tried)
    const moments = [
      this.#regular.next(now),
      this.#fullMoments.next(now),
      this.#nextRpoMoment(record, now),
      // Due already, and the window is closed; or it waits for its next try.
      wish !== undefined && tried === 0 ? now : undefined,
      retry === undefined ? undefined : Math.max(retry, now),
    ]
    const open = moments.flatMap((at) => (at === undefined ? [] : [this.#hours.opens(at)])).filter((at) => at !== undefined)
    const later = open.filter((at) => at > now)
    return later.length === 0 ? undefined : Math.min(...later)
  }

  deadline({ lastGoodAt, knownSince }: VmRecord): number | undefined {
    const { rpoMs } = this.#schedule
    return rpoMs === undefined ? undefined : (lastGoodAt ?? knownSince) + rpoMs
  }

  /** The newest moment up to now that no good point has met. */
  #newestWish(record: VmRecord, now: number): Wish | undefined {
    const { knownSince, lastGoodAt, lastFullAt } = record
    const wishes = [
      wishOf(this.#regular, now, Math.max(knownSince, lastGoodAt ?? knownSince), 'its moment has come'),
      wishOf(this.#fullMoments, now, Math.max(knownSince, lastFullAt ?? knownSince), 'the moment of its full backup has come'),
      this.#rpoWish(record, now),
    ].filter((wish) => wish !== undefined)
    const newest = wishes.reduce<Wish | undefined>((best, wish) => (best === undefined || wish.at > best.at ? wish : best), undefined)
    return newest === undefined ? undefined : { ...newest, since: Math.min(...wishes.map(({ since }) => since)) }
  }

  #rpoWish(record: VmRecord, now: number): Wish | undefined {
    const first = this.#firstRpoMoment(record)
    if (first === undefined || first > now) return undefined
    const pause = this.#rpoPause()
    const at = first + Math.floor((now - first) / pause) * pause
    return { at, since: first, reason: record.lastGoodAt === undefined ? 'it has no good point yet' : 'its last good point grows too old' }
  }

  #nextRpoMoment(record: VmRecord, now: number): number | undefined {
    const first = this.#firstRpoMoment(record)
    if (first === undefined || first > now) return first
    const pause = this.#rpoPause()
    return first + (Math.floor((now - first) / pause) + 1) * pause
  }

  /** When a run has to begin so that it ends before the last good point is too old, inside the windows where that is possible. */
  #firstRpoMoment(record: VmRecord): number | undefined {
    const { lastGoodAt, expectMs = 0, knownSince } = record
    const { rpoMs } = this.#schedule
    if (rpoMs === undefined) return undefined
    if (lastGoodAt === undefined) return knownSince
    const deadline = lastGoodAt + rpoMs
    const lead = Math.round(Math.min(rpoMs / 2, Math.min(rpoMs / 10, MOST_SPARE_MS) + 1.5 * expectMs))
    const latest = deadline - lead
    const [closes, opens] = [this.#hours.closes(latest), this.#hours.opens(latest)]
    const inTime = (begin: number | undefined): boolean => begin !== undefined && begin + expectMs <= deadline
    // The last window before the deadline is not left to its end: a failed run wants another try in it.
    const early = (end: number): number => end - TRIES_IN_LAST_WINDOW * lead
    if (closes === Number.POSITIVE_INFINITY) return latest
    if (closes !== undefined) return inTime(this.#hours.opens(closes)) ? latest : Math.max(lastGoodAt + 1, Math.min(latest, early(closes)))
    if (inTime(opens)) return opens
    const before = this.#hours.lastClosed(latest)
    // Of a good point from that window already, there is nothing better than the next one.
    const begin = before === undefined ? undefined : Math.max(before.from, early(before.to))
    return begin !== undefined && begin > lastGoodAt ? begin : opens
  }

  #rpoPause(): number {
    return Math.max(LEAST_RPO_PAUSE_MS, Math.round((this.#schedule.rpoMs ?? 0) / RPO_PARTS))
  }

  /** When the next try may begin after so many failed ones; undefined when none may before the next moment. */
  #retryAt({ runs }: VmRecord, tried: number): number | undefined {
    const { attempts, delayMs, on } = this.#schedule.retry
    const last = runs[0]
    if (last === undefined || last.error === undefined || tried > attempts || !on.includes(last.error)) return undefined
    return last.endedAt + delayMs * 2 ** (tried - 1)
  }

  #mode({ lastFullAt }: VmRecord, now: number): readonly [BackupMode, string | undefined] {
    const { full } = this.#schedule
    if (full === 'always') return ['full', undefined]
    if (lastFullAt === undefined) return ['full', 'there is no full point yet']
    if (full === 'first') return ['incremental', undefined]
    if ('cron' in full) {
      const wanted = this.#fullMoments.newest(now, lastFullAt) !== undefined
      return wanted ? ['full', 'the last full point is from before the moment of the full backup'] : ['incremental', undefined]
    }
    // A point is a little younger than the moment it was made for.
    return now - lastFullAt >= full.everyMs - Math.min(MOST_SPARE_MS, full.everyMs / 10)
      ? ['full', 'the last full point is old enough']
      : ['incremental', undefined]
  }
}

function wishOf(moments: CronMoments, now: number, after: number, reason: string): Wish | undefined {
  const at = moments.newest(now, after)
  return at === undefined ? undefined : { at, since: moments.next(after) ?? at, reason }
}

const triesSince = ({ runs }: VmRecord, at: number): number => runs.filter(({ begunAt }) => begunAt >= at).length
