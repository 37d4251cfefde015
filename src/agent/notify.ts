import { type AgentError, toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'
import type { JobConfig } from './config/jobs.ts'
import type { Dispatcher } from './dispatcher.ts'
import { NoticeShift } from './notice-shift.ts'
import type { AfterRun, RunEnded } from './run-ended.ts'

/** How often it is looked whether a reload changed the notices, and whether a recovery found runs cut off, ms. */
const LOOK_MS = 2000

/**
 * Tells people what happens, as the section `notices` of the configuration in force says. A backup never waits for a mail server: a run is over before it is told.
 * Begins when the agent is known to be the only one of its state directory; ended when nothing runs any more.
 */
export class Notifier implements AfterRun {
  readonly name = 'notices'
  readonly #agent: Agent
  readonly #dispatcher: Pick<Dispatcher, 'config' | 'members'>
  readonly #once: boolean
  readonly #looks: Disposable
  #shift: NoticeShift
  #changing: Promise<void> = Promise.resolve()
  #ending: Promise<void> | undefined

  constructor(agent: Agent, dispatcher: Pick<Dispatcher, 'config' | 'members'>, { once }: { readonly once: boolean }) {
    this.#agent = agent
    this.#dispatcher = dispatcher
    this.#once = once
    this.#shift = this.#begin()
    this.#looks = agent.clock.every(
      LOOK_MS,
      () => this.#tellCutOff(),
      (error) => agent.log.warn('notices have a problem', { error: toAgentError(error).message }),
    )
  }

  async after({ record, job }: RunEnded): Promise<void> {
    await this.#follow()
    if (job !== undefined) await this.#shift.ran(record, job)
  }

  /** What follows the runs of a job has failed. Never fails. */
  async failed(job: JobConfig, work: string, { code, message, next }: AgentError): Promise<void> {
    try {
      await this.#follow()
      await this.#shift.failed(job, {
        job: job.name,
        what: `${work} failed`,
        reason: `${code}: ${message}${next === '' ? '' : ` ${next}`}`,
      })
    } catch (error) {
      this.#agent.log.warn('notices have a problem', { error: toAgentError(error).message })
    }
  }

  /** What is left waits on disk for the next agent; of one that runs but once everything is told first. Idempotent. */
  end(): Promise<void> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  async #end(): Promise<void> {
    this.#looks[Symbol.dispose]()
    try {
      await this.#tellCutOff()
    } catch (error) {
      this.#agent.log.warn('notices have a problem', { error: toAgentError(error).message })
    }
    await this.#changing
    await this.#shift[Symbol.asyncDispose]()
  }

  async #tellCutOff(): Promise<void> {
    await this.#follow()
    for (const record of this.#agent.takeCutOff()) {
      const job = this.#dispatcher.config.jobs.find(({ name }) => name === record.job)
      if (job !== undefined) await this.#shift.ran(record, job)
    }
  }

  /** After a reload that changed them: what waits on disk goes on with the notices of now. */
  async #follow(): Promise<void> {
    const change = async (): Promise<void> => {
      if (this.#ending !== undefined || this.#once || isSame(this.#dispatcher.config.notices, this.#shift.notices)) return
      await this.#shift[Symbol.asyncDispose]()
      this.#shift = this.#begin()
    }
    this.#changing = this.#changing.then(change)
    await this.#changing
  }

  #begin(): NoticeShift {
    const { members } = this.#dispatcher
    const seen = () => ({ known: members.records !== undefined, members: members.all, errors: members.errors })
    return new NoticeShift({ agent: this.#agent, config: () => this.#dispatcher.config, seen, once: this.#once })
  }
}

const isSame = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)
