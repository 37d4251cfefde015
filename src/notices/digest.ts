import { createHash } from 'node:crypto'
import { type Abortable, type Clock, isAgentError, type Log, toAgentError } from '../core/index.ts'
import { createCronMoments, type CronMoments } from '../schedule/index.ts'
import type { Occurrence } from './occurrence.ts'
import type { Report } from './report.ts'
import type { Teller } from './teller.ts'
import type { ToldMarks } from './told-marks.ts'

/** A channel that gets one report of everything since its last one, at moments. */
export type DigestPlan = { readonly name: string; readonly cron: readonly string[]; readonly timeZone: string }

export type DigestOptions = {
  readonly plan: DigestPlan
  readonly marks: ToldMarks
  readonly teller: Teller
  readonly report: (since: Date, until: Date, options: Abortable) => Promise<Report>
  readonly post: (channel: string, occurrence: Occurrence) => Promise<void>
  readonly clock: Clock
  readonly log: Log
  /** What ended so short a time ago belongs to the next report: it may not be written down yet. ms */
  readonly settleMs: number
}

/** A report that could not be made is tried again after so long, ms. */
const AGAIN_MS = 60_000
/** The clock is looked at no less often than this, so that one that was set is followed. ms */
const LONGEST_SLEEP_MS = 60_000

/** Makes the reports of one channel when they are due. One that fell into an outage is caught up, once, and tells the whole time since the last. */
export class DigestTimer {
  readonly #options: DigestOptions
  readonly #moments: CronMoments

  constructor(options: DigestOptions) {
    this.#options = options
    this.#moments = createCronMoments(options.plan.cron, options.plan.timeZone)
  }

  /** Until `signal` aborts. */
  async run({ signal }: Required<Abortable>): Promise<void> {
    const { clock, log, plan } = this.#options
    for (;;) {
      let waitMs: number
      try {
        waitMs = await this.look({ signal })
      } catch (error) {
        if (isAgentError(error, 'CANCELED')) return
        log.warn('a report could not be made', { notice: plan.name, error: toAgentError(error).message })
        waitMs = AGAIN_MS
      }
      try {
        await clock.sleep(waitMs, { signal })
      } catch (error) {
        if (isAgentError(error, 'CANCELED')) return
        throw error
      }
    }
  }

  /** Posts the report that is due, if one is and it is this agent's to tell; how long to the next look, ms. */
  async look({ signal }: Abortable): Promise<number> {
    const { clock, plan, marks, teller, report, post, settleMs } = this.#options
    const now = clock.now()
    const mark = `report ${plan.name}`
    if (await teller.isMine(mark)) {
      const before = await marks.get(mark)
      const last = lastOf(before)
      const due = last === undefined ? undefined : this.#moments.newest(now.getTime(), last.due)
      if (last === undefined) {
        // The first report begins when the agent first ran.
        await marks.change(mark, before, lastText({ until: now.getTime(), due: now.getTime() }))
      } else if (due !== undefined) {
        const until = Math.max(last.until, now.getTime() - settleMs)
        const made = await report(new Date(last.until), new Date(until), { signal })
        const id = createHash('sha256').update(`${mark} ${due}`).digest('hex').slice(0, 24)
        // Posted before it is noted: after a crash between the two the same id is posted again, and the outbox or the receiver knows it.
        if (await teller.isMine(mark)) await post(plan.name, { version: 1, id, at: now.toISOString(), kind: 'digest', report: made })
        await marks.change(mark, before, lastText({ until, due }))
      }
    }
    const next = this.#moments.next(now.getTime())
    return next === undefined ? LONGEST_SLEEP_MS : Math.max(1, Math.min(LONGEST_SLEEP_MS, next - now.getTime()))
  }
}

/** The last report: until when it told, and the moment it was due, ms since 1970. */
type Last = { readonly until: number; readonly due: number }

const lastText = ({ until, due }: Last): string => `${new Date(until).toISOString()} ${new Date(due).toISOString()}`

/** Undefined of what cannot be understood. */
function lastOf(text: string | undefined): Last | undefined {
  const [until = Number.NaN, due = Number.NaN] = (text ?? '').split(' ').map((moment) => Date.parse(moment))
  return Number.isNaN(until) || Number.isNaN(due) ? undefined : { until, due }
}
