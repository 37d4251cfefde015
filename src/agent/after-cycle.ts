import { type Abortable, type AgentError, type Clock, type Log, toAgentError, type VmRef } from '../core/index.ts'
import { vmOf } from '../schedule/index.ts'
import type { JobConfig } from './config/jobs.ts'
import { insideRun } from './log-scope.ts'
import type { AfterRun, RunEnded } from './run-ended.ts'

/** What is done to the points of a job's VMs once nothing writes to their repository any more. */
export type CycleWork = {
  readonly name: string
  /** Whether the job wants it. */
  readonly wanted: (job: JobConfig) => boolean
  /** Of all VMs of a job that have a new good point. Called with nothing of this agent writing to the job's repository. */
  readonly work: (job: JobConfig, vms: readonly VmRef[], options: Abortable) => Promise<void>
}

export type FailedWork = (job: JobConfig, work: string, error: AgentError) => Promise<void>

type Pending = {
  readonly job: JobConfig
  readonly vms: Map<string, VmRef>
  /** How often the repository was found in use, and when it is looked at again, by the clock that never steps. */
  vain: number
  notBefore: number
}
type Doing = { readonly places: readonly string[]; ended: Promise<void> }

/** So many jobs' works at once, each with the indexes of its repositories in memory. */
const MOST = 3
/** What waits is looked at so often: whoever had the repository does not say when it is free. ms */
const LOOK_MS = 15_000
/** Until a repository that was in use is tried again: doubled each time up to the second. ms */
const FIRST_PAUSE_MS = 60_000
const LONGEST_PAUSE_MS = 30 * 60_000

/**
 * Collects the VMs whose runs succeeded until no run is left that writes to the job's repository, then does the works for all of them, one after another: a removal
 * needs the repository for itself, and a copy is not to slow backups down. Jobs without a repository in common do not wait for each other. Where one work fails, those after it
 * are not done: nothing is forgotten that could not be copied. A VM whose run failed is left as it is. What found the repository in use is tried again by the clock, with growing
 * pauses; what failed otherwise is told, and comes again with the next good point.
 */
export class AfterCycle implements AfterRun {
  readonly name = 'cycle'
  readonly #works: readonly CycleWork[]
  readonly #isBusy: (repository: string) => boolean
  readonly #clock: Clock
  readonly #log: Log
  readonly #onFailed: FailedWork
  readonly #pending = new Map<string, Pending>()
  readonly #doing = new Set<Doing>()
  readonly #looking: Disposable
  #options: Abortable = {}

  /** `isBusy`: a run of this agent writes to the repository of this name, or waits to. `onFailed`: told of each work that failed; one that comes again soon has not. */
  constructor(
    works: readonly CycleWork[],
    isBusy: (repository: string) => boolean,
    { clock, log }: { readonly clock: Clock; readonly log: Log },
    onFailed: FailedWork = async () => undefined,
  ) {
    this.#works = works
    this.#isBusy = isBusy
    this.#clock = clock
    this.#log = log
    this.#onFailed = onFailed
    this.#looking = clock.every(
      LOOK_MS,
      () => this.#begin(),
      (error) => log.error('what follows a cycle could not be begun', { error: toAgentError(error).message }),
    )
  }

  async after({ record, job }: RunEnded, options: Abortable): Promise<void> {
    this.#options = options
    if (job !== undefined && record.result === 'succeeded' && this.#works.some(({ wanted }) => wanted(job))) {
      const { vms = new Map<string, VmRef>(), vain = 0, notBefore = Number.NEGATIVE_INFINITY } = this.#pending.get(job.name) ?? {}
      vms.set(vmOf(record), record.vm)
      this.#pending.set(job.name, { job, vms, vain, notBefore })
    }
    this.#begin()
  }

  async settled(): Promise<void> {
    this.#looking[Symbol.dispose]()
    this.#begin()
    while (this.#doing.size > 0) await Promise.all([...this.#doing].map(({ ended }) => ended))
    for (const { job } of this.#pending.values())
      this.#log.warn('what follows a cycle is left for the next one: the repository is in use', { job: job.name })
  }

  #begin(): void {
    const now = this.#clock.monotonicMs()
    for (const pending of this.#pending.values().toArray()) {
      if (this.#doing.size >= MOST) return
      const { job, notBefore } = pending
      const places = [job.repository, ...job.copyTo]
      const inUse = [...this.#doing].some((other) => other.places.some((place) => places.includes(place)))
      if (notBefore > now || inUse || this.#isBusy(job.repository)) continue
      this.#pending.delete(job.name)
      const doing: Doing = { places, ended: Promise.resolve() }
      this.#doing.add(doing)
      doing.ended = this.#do(pending).finally(() => {
        this.#doing.delete(doing)
        this.#begin()
      })
    }
  }

  /** Never fails. */
  async #do({ job, vms, vain }: Pending): Promise<void> {
    let doing = ''
    try {
      for (const { name, wanted, work } of this.#works) {
        doing = name
        if (wanted(job)) await insideRun({ job: job.name }, () => work(job, [...vms.values()], this.#options))
      }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code !== 'CONFLICT' || shown.retry !== 'later') return this.#failed(job, doing, shown)
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** vain)
      this.#log.warn('what follows a cycle waits: the repository is in use', { work: doing, job: job.name, error: shown.message, pauseMs })
      // VMs that have a new point meanwhile come with it.
      const later = this.#pending.get(job.name)
      this.#pending.set(job.name, {
        job: later?.job ?? job,
        vms: new Map([...vms, ...(later?.vms ?? [])]),
        vain: vain + 1,
        notBefore: this.#clock.monotonicMs() + pauseMs,
      })
    }
  }

  async #failed(job: JobConfig, work: string, error: AgentError): Promise<void> {
    this.#log.warn('what follows a cycle failed', { work, job: job.name, error: error.message })
    try {
      await this.#onFailed(job, work, error)
    } catch (second) {
      this.#log.error('nobody could be told of it', { work, job: job.name, error: toAgentError(second).message })
    }
  }
}
