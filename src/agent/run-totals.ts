import type { JobFacts } from '../api/index.ts'
import type { RunRecord } from '../core/index.ts'
import type { AfterRun, RunEnded } from './run-ended.ts'

type Totals = { runs: Record<RunRecord['result'], number>; readBytes: number; storedBytes: number }

/** Sums over the runs that ended since this agent began, for its metrics. */
export class RunTotals implements AfterRun {
  readonly name = 'totals'
  readonly #byJob = new Map<string | undefined, Totals>()

  after({ record }: RunEnded): Promise<void> {
    const totals = this.#byJob.get(record.job) ?? { runs: { succeeded: 0, failed: 0, canceled: 0 }, readBytes: 0, storedBytes: 0 }
    totals.runs[record.result]++
    totals.readBytes += record.readBytes
    totals.storedBytes += record.storedBytes
    this.#byJob.set(record.job, totals)
    return Promise.resolve()
  }

  get facts(): readonly JobFacts[] {
    return [...this.#byJob].map(([job, totals]) => ({ job, ...totals, runs: { ...totals.runs } }))
  }
}
