import { AgentError, anySignal, type Clock, type JobId, type Log } from '../core/index.ts'
import type { CancelRequests } from './journal.ts'

/** How often a process asks whether one of its jobs is to be canceled. ms */
const ASK_EVERY = 1000
/** How long a release that was told to stop may take to do so before nobody waits for it any more. ms */
const STOP_WITHIN = 2000

export type CancelWatchOptions = {
  readonly requests: CancelRequests
  readonly clock: Clock
  readonly log: Log
  /** Cancels every job of the process: its first SIGINT or SIGTERM. */
  readonly all: AbortSignal
  /** Ends the waiting for releases at once: the second one. */
  readonly giveUp?: AbortSignal | undefined
  /** Aborts when this process must not touch anything any more, because others take over what it holds: its jobs end at once and release nothing. */
  readonly fenced?: AbortSignal | undefined
  /** From the cancel of a job to the moment its releases are given up. ms */
  readonly deadlineMs: number
}

/** The signals of one job. Disposed when the job has ended. */
export type JobSignals = Disposable & {
  /** Aborts when the job is to end: by request, by a signal to the process, or with the job it is a part of. */
  readonly canceled: AbortSignal
  /** The release deadline that every releaser gets. Aborts a while after `canceled`, or at once when the user gives up. */
  readonly deadline: AbortSignal
  /** Aborts two seconds after `deadline`: what has not stopped by then is no longer waited for. */
  readonly abandoned: AbortSignal
  /** `fenced` of the options. */
  readonly fenced: AbortSignal | undefined
}

/**
 * What ends the jobs of one process before their time. Made once by the composition root; asks the journal once a second, and only while a
 * job runs.
 */
export class CancelWatch implements Disposable {
  readonly #options: CancelWatchOptions
  readonly #jobs = new Map<JobId, AbortController>()
  #asking: Disposable | undefined

  constructor(options: CancelWatchOptions) {
    this.#options = options
  }

  /** Called once per job, as it begins. `partOf` is the `canceled` of the job that contains it. */
  watch(job: JobId, partOf?: AbortSignal): JobSignals {
    const { clock, all, giveUp, fenced, deadlineMs } = this.#options
    const own = new AbortController()
    const late = new AbortController()
    const gone = new AbortController()
    const ended = new AbortController()
    const canceled = anySignal(own.signal, all, fenced, partOf) ?? own.signal
    const after = async (ms: number, then: () => void): Promise<void> => {
      try {
        await clock.sleep(ms, { signal: ended.signal })
      } catch {
        // The job has ended in time.
        return
      }
      then()
    }
    const when = (signal: AbortSignal | undefined, then: () => void): void => {
      if (signal?.aborted === true) then()
      else signal?.addEventListener('abort', then, { once: true, signal: ended.signal })
    }
    when(canceled, () => void after(deadlineMs, () => late.abort(tooLate(deadlineMs))))
    when(giveUp, () => late.abort(giveUp?.reason))
    when(fenced, () => late.abort(fenced?.reason))
    when(late.signal, () => void after(STOP_WITHIN, () => gone.abort(late.signal.reason)))
    this.#jobs.set(job, own)
    this.#asking ??= clock.every(
      ASK_EVERY,
      () => this.#ask(),
      (error) => this.#cannotAsk(error),
    )
    return {
      canceled,
      deadline: late.signal,
      abandoned: gone.signal,
      fenced,
      [Symbol.dispose]: () => {
        ended.abort()
        this.#jobs.delete(job)
        if (this.#jobs.size === 0) this[Symbol.dispose]()
      },
    }
  }

  [Symbol.dispose](): void {
    this.#asking?.[Symbol.dispose]()
    this.#asking = undefined
  }

  async #ask(): Promise<void> {
    for (const { job, by } of await this.#options.requests.toCancel()) {
      const own = this.#jobs.get(job)
      if (own === undefined || own.signal.aborted) continue
      this.#options.log.info('a job is to be canceled', { job, by })
      own.abort(new AgentError('CANCELED', `The job was canceled by ${by}.`, { subject: job }))
    }
  }

  #cannotAsk(error: unknown): void {
    this.#options.log.warn('the journal could not be asked whether a job is to be canceled', {
      error: error instanceof Error ? error.message : String(error),
    })
  }
}

const tooLate = (deadlineMs: number): AgentError =>
  new AgentError('CANCELED', `It was not released within the ${Math.round(deadlineMs / 1000)} s that a cancel waits.`, {
    next: 'Run "vcb recover", which releases it.',
  })
