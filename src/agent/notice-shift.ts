import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { anySignal, type Log, type RunRecord, toAgentError } from '../core/index.ts'
import {
  CoverageWatch,
  createReport,
  Delivery,
  DigestTimer,
  eventOf,
  type JobProblem,
  type NoticeEvent,
  type Occurrence,
  Outbox,
  type Report,
  Teller,
} from '../notices/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { coverageOf, coveredVms, jobProblems, type JobsSeen } from './coverage.ts'
import { noticeChannel } from './notice-channels.ts'
import { outboxDirectory } from './notice-outbox.ts'

/** How often it is looked for VMs that miss their RPO, ms. */
const LOOK_MS = 60_000
/** An agent that runs but once waits so long for its notices to be taken, and looks so often, ms. */
const LAST_MS = 30_000
const LOOK_AGAIN_MS = 100
const FIRST_ANSWER_MS = 60_000
/** Enough for what happened in one run to be told in one message, ms. */
const TOGETHER_MS = 1
/** What ended so short a time before a report may not be written down yet, by whichever agent, ms. */
const SETTLE_MS = 10_000
/** Runs that one report tells at most. */
export const MOST_RUNS = 100_000

export type NoticeShiftParts = {
  readonly agent: Agent
  /** The configuration in force; its notices are those of the shift as long as that lives. */
  readonly config: () => AgentConfig
  readonly seen: () => JobsSeen
  readonly once: boolean
}

/**
 * Tells what `notices` of one configuration say: each run to the notices that its job names, VMs that miss their RPO, reports at moments. What is to be told is on disk
 * first. Begins at once, and ends when it is disposed; what is left then waits for the next. Of an agent that runs but once everything is told together at its end.
 */
export class NoticeShift implements AsyncDisposable {
  readonly notices: AgentConfig['notices']
  readonly #parts: NoticeShiftParts
  readonly #outbox: Outbox
  readonly #delivery: Delivery
  readonly #digests: readonly DigestTimer[]
  readonly #watches: readonly { readonly channel: string; readonly watch: CoverageWatch }[]
  readonly #over = new AbortController()
  readonly #signal: AbortSignal
  readonly #work: Promise<unknown>
  readonly #looks: Disposable | undefined

  constructor(parts: NoticeShiftParts) {
    const { agent, once } = parts
    const config = parts.config()
    const { clock, log, toldMarks: marks, processes } = agent
    this.#parts = parts
    this.notices = config.notices
    this.#signal = anySignal(this.#over.signal, agent.signal) ?? this.#over.signal
    this.#outbox = new Outbox(outboxDirectory(config), { clock, log })
    const channels = config.notices.map((notice) => noticeChannel(once ? { ...notice, gatherMs: TOGETHER_MS } : notice, { clock }))
    this.#delivery = new Delivery({ outbox: this.#outbox, channels, clock, log, proxy: hostname() })
    const post = (channel: string, occurrence: Occurrence): Promise<void> => this.#delivery.post(channel, occurrence)
    const teller = new Teller(marks, processes)
    this.#digests = config.notices.flatMap(({ name, digest }) => {
      if (digest === undefined) return []
      const report = (since: Date, until: Date): Promise<Report> => this.#report(since, until, digest.timeZone)
      const settleMs = once ? 0 : SETTLE_MS
      return [new DigestTimer({ plan: { name, ...digest }, marks, teller, report, post, clock, log, settleMs })]
    })
    this.#watches = config.notices
      .filter(({ on }) => on.includes('missedRpo'))
      .map(({ name }) => ({ channel: name, watch: new CoverageWatch({ channel: name, marks, teller, post }) }))
    const signal = this.#signal
    const begun = once ? [] : [this.#delivery.run({ signal }), ...this.#digests.map((digest) => digest.run({ signal }))]
    this.#work = Promise.all(begun).catch(told(log))
    this.#looks = once || this.#watches.length === 0 ? undefined : clock.every(LOOK_MS, () => this.#look(), told(log))
  }

  /** A run of a job has ended. Durable when it resolves. */
  async ran(record: RunRecord, job: JobConfig): Promise<void> {
    const event = eventOf(record)
    const id = idOf(`${record.run} ${record.vm.vcenterUuid}/${record.vm.instanceUuid}`)
    for (const channel of this.#channelsOf(job, event))
      await this.#delivery.post(channel, { version: 1, id, at: record.endedAt, kind: 'run', event, record })
  }

  /** What follows the runs of a job has failed; those who get reports are told too, since no report knows of it. */
  async failed(job: JobConfig, problem: JobProblem): Promise<void> {
    const at = this.#parts.agent.clock.now().toISOString()
    const reports = this.notices.filter(({ digest }) => digest !== undefined).map(({ name }) => name)
    for (const channel of [...this.#channelsOf(job, 'failure'), ...reports])
      await this.#delivery.post(channel, { version: 1, id: idOf(`${job.name} ${problem.what} ${at}`), at, kind: 'job', problem })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#looks?.[Symbol.dispose]()
    if (this.#parts.once) await this.#tellAll()
    this.#over.abort()
    await this.#work
  }

  /** Until nothing waits, or the time is over. */
  async #tellAll(): Promise<void> {
    const { agent } = this.#parts
    const { clock, log } = agent
    if (this.notices.length === 0) return
    try {
      await this.#look()
      for (const digest of this.#digests) await digest.look({ signal: this.#signal })
    } catch (error) {
      told(log)(error)
    }
    const until = clock.monotonicMs() + LAST_MS
    const waiting = async (): Promise<boolean> => {
      const sizes = await Promise.all(this.notices.map(({ name }) => this.#outbox.size(name)))
      return sizes.some((size) => size > 0)
    }
    if (!(await waiting())) return
    const delivering = this.#delivery.run({ signal: this.#signal }).catch(told(log))
    while (!agent.signal.aborted && clock.monotonicMs() < until && (await waiting())) await clock.sleep(LOOK_AGAIN_MS)
    this.#over.abort()
    await delivering
  }

  async #look(): Promise<void> {
    const { agent, seen } = this.#parts
    const { jobs, noRpoAgeMs } = this.#parts.config()
    const { known, members, errors } = seen()
    // Before vCenter has answered once, nothing is known of anybody.
    if (!known) return
    const at = agent.clock.now()
    for (const { channel, watch } of this.#watches) {
      const names = new Set(jobs.filter(({ notices }) => notices.includes(channel)).map(({ name }) => name))
      const its = {
        known,
        members: members.filter(({ job }) => names.has(job.name)),
        errors: new Map([...errors].filter(([job]) => names.has(job))),
      }
      await watch.look({ at, covered: coveredVms(its.members, noRpoAgeMs), problems: jobProblems(its, at.getTime()) })
    }
  }

  /** Names of the notices that a job names and that tell such an event; of a digest none. */
  #channelsOf(job: JobConfig, event: NoticeEvent): readonly string[] {
    return this.notices.filter(({ name, on }) => job.notices.includes(name) && on.includes(event)).map(({ name }) => name)
  }

  /** A report that is due when the agent begins waits a little for vCenter's first answer; without one it says that it is not known. */
  async #untilKnown(): Promise<void> {
    const { agent, seen } = this.#parts
    const { clock } = agent
    const until = clock.monotonicMs() + FIRST_ANSWER_MS
    while (!seen().known && clock.monotonicMs() < until) await clock.sleep(LOOK_AGAIN_MS, { signal: this.#signal })
  }

  async #report(since: Date, until: Date, timeZone: string): Promise<Report> {
    const { agent, config, seen } = this.#parts
    await this.#untilKnown()
    const records = await agent.history.find({ since, until, limit: MOST_RUNS })
    const coverage = await coverageOf(agent, seen(), config().noRpoAgeMs, { signal: this.#signal })
    return createReport({ title: 'Backup report', proxy: hostname(), since, until, timeZone, records, coverage })
  }
}

const idOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 24)

const told =
  (log: Log) =>
  (error: unknown): void =>
    log.warn('notices have a problem', { error: toAgentError(error).message })
