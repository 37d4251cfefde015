import { type Abortable, type AgentError, isAgentError, type Log, toAgentError, type VmRef } from '../core/index.ts'
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

type Pending = { readonly job: JobConfig; readonly vms: Map<string, VmRef> }

/**
 * Collects the VMs whose runs succeeded until no run is left that writes to the job's repository, then does the works for all of them, one after another: a removal
 * needs the repository for itself, and a copy is not to slow backups down. Where one fails, those after it are not done: nothing is forgotten that could not be copied.
 * A VM whose run failed is left as it is. What found the repository in use is tried again after the next run; what failed otherwise is told, and comes again with the
 * next good point.
 */
export class AfterCycle implements AfterRun {
  readonly name = 'cycle'
  readonly #works: readonly CycleWork[]
  readonly #isBusy: (repository: string) => boolean
  readonly #log: Log
  readonly #onFailed: FailedWork
  readonly #pending = new Map<string, Pending>()

  /** `isBusy`: a run of this agent writes to the repository of this name, or waits to. `onFailed`: told of each work that failed; one that comes again soon has not. */
  constructor(
    works: readonly CycleWork[],
    isBusy: (repository: string) => boolean,
    log: Log,
    onFailed: FailedWork = async () => undefined,
  ) {
    this.#works = works
    this.#isBusy = isBusy
    this.#log = log
    this.#onFailed = onFailed
  }

  async after({ record, job }: RunEnded, options: Abortable): Promise<void> {
    if (job !== undefined && record.result === 'succeeded' && this.#works.some(({ wanted }) => wanted(job))) {
      const pending = this.#pending.get(job.name)
      const vms = pending?.vms ?? new Map<string, VmRef>()
      vms.set(vmOf(record), record.vm)
      this.#pending.set(job.name, { job, vms })
    }
    for (const pending of this.#pending.values().toArray()) {
      if (!this.#isBusy(pending.job.repository)) await this.#do(pending, options)
    }
  }

  async #do({ job, vms }: Pending, options: Abortable): Promise<void> {
    this.#pending.delete(job.name)
    let doing = ''
    try {
      for (const { name, wanted, work } of this.#works) {
        doing = name
        if (wanted(job)) await insideRun({ job: job.name }, () => work(job, [...vms.values()], options))
      }
    } catch (error) {
      const again = isAgentError(error, 'CONFLICT')
      if (again) this.#pending.set(job.name, { job, vms })
      const shown = toAgentError(error)
      this.#log.warn(again ? 'it is tried again after the next run' : 'what follows a cycle failed', {
        work: doing,
        job: job.name,
        error: shown.message,
      })
      if (!again) await this.#onFailed(job, doing, shown)
    }
  }
}
