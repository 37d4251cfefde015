import type { AgentError, RunRecord, VmRef } from '../core/index.ts'
import { createDuePlanner, type DuePlanner, type Place, vmOf, type VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { resolveJobs } from './job-vms.ts'
import { VmRecords } from './vm-records.ts'

/** A VM of a job, as it was when vCenter was asked last. */
export type Member = {
  readonly key: string
  job: JobConfig
  vm: VmRef
  place: Place
  planner: DuePlanner
  record: VmRecord
  /** When to ask the planner again, ms since 1970. */
  nextLook: number
}

/** The VMs of all jobs with what is known of them, followed through time: VMs that come and go, runs of this process and of others. */
export class JobMembers {
  readonly #agent: Agent
  readonly #members = new Map<string, Member>()
  readonly #errors = new Map<string, AgentError>()
  #config: AgentConfig
  #records: VmRecords | undefined

  constructor(agent: Agent, config: AgentConfig) {
    this.#agent = agent
    this.#config = config
  }

  get all(): readonly Member[] {
    return [...this.#members.values()]
  }

  of(key: string): Member | undefined {
    return this.#members.get(key)
  }

  /** Jobs whose selection names nothing, and why. */
  get errors(): ReadonlyMap<string, AgentError> {
    return this.#errors
  }

  get records(): VmRecords | undefined {
    return this.#records
  }

  /** Other jobs from now on; their VMs come with the next `refresh`. */
  configure(config: AgentConfig): void {
    this.#config = config
    const jobs = new Map(config.jobs.map((job) => [job.name, job]))
    for (const member of this.#members.values()) {
      const job = jobs.get(member.job.name)
      if (job === undefined) this.#members.delete(member.key)
      else if (job !== member.job) Object.assign(member, { job, planner: createDuePlanner(job.name, job.schedule), nextLook: 0 })
    }
  }

  /** Asks vCenter for the VMs of each job, and the history for what other processes did. Throws what concerns all jobs: then everything is as it was. */
  async refresh(): Promise<void> {
    const agent = this.#agent
    const config = this.#config
    const now = agent.clock.now()
    const records = (this.#records ??= await VmRecords.open(agent, now))
    await records.refresh(now)
    const { jobs } = await resolveJobs(agent, config.jobs, now, { records, remember: true })
    if (config !== this.#config) return
    const left = new Set(this.#members.keys())
    for (const { job, vms, error } of jobs) {
      this.#noteError(job.name, error)
      const planner = createDuePlanner(job.name, job.schedule)
      for (const { vm, place, record } of vms) {
        const key = `${job.name} ${vmOf({ vm })}`
        left.delete(key)
        const known = this.#members.get(key)
        const facts = { job, vm, place, record, nextLook: 0 }
        if (known === undefined) this.#members.set(key, { key, planner, ...facts })
        else Object.assign(known, facts)
      }
    }
    for (const key of left) this.#members.delete(key)
  }

  /** A run of this process has ended. */
  note(record: RunRecord): void {
    const records = this.#records
    if (records === undefined) return
    records.note(record)
    const vm = vmOf(record)
    for (const member of this.#members.values()) {
      if (vmOf(member) !== vm) continue
      const url = this.#config.repositories.find(({ name }) => name === member.job.repository)?.url ?? ''
      member.record = records.recordOf(member.job.name, member.vm, url, new Date(member.record.knownSince))
      member.nextLook = 0
    }
  }

  #noteError(job: string, error: AgentError | undefined): void {
    const before = this.#errors.get(job)
    if (error === undefined) this.#errors.delete(job)
    else this.#errors.set(job, error)
    if (error !== undefined && before?.message !== error.message) this.#agent.log.warn('a job has no VM', { job, error: error.message })
  }
}
