import type { AgentEvent } from '../api/index.ts'
import { AgentError, anySignal, type BackupMode, type RunId, type RunRecord, toAgentError, type VmRef } from '../core/index.ts'
import { admit, byUrgency, type Place, type Room } from '../schedule/index.ts'
import { DEFAULT_LIMITS } from '../transport/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { type DueClaims, soleAgent } from './due-claims.ts'
import { JobMembers } from './job-members.ts'
import { asked, type QueuedRun, wanted } from './queued-run.ts'
import { RepositorySessions } from './repository-sessions.ts'
import { type AfterRun, type RunEnded, tellRunEnded } from './run-ended.ts'
import { recordFailed, runQueued } from './run-queued.ts'

export type DispatcherOptions = {
  readonly agent: Agent
  readonly claims?: DueClaims | undefined
  /** Told of each ended run, in this order. */
  readonly followers?: readonly AfterRun[] | undefined
  readonly onEvent?: ((event: AgentEvent) => void) | undefined
}

export type DispatchOptions = {
  /** Aborted: nothing new begins, and it ends when what runs has ended. */
  readonly stop: AbortSignal
  /** Runs what is due now and what was asked for, and ends. */
  readonly once?: boolean | undefined
}

/** vCenter is asked for the VMs of the jobs so often, and before a run begins when the last answer is older than the second, ms. */
const REFRESH_MS = 5 * 60_000
const FRESH_MS = 60_000
/** After a vain attempt, ms. */
const REFRESH_AGAIN_MS = 30_000
/** After another agent had the claim on a due, ms: what a dead one had comes back within a minute. */
const CLAIM_AGAIN_MS = 10_000
/** Looks at the clock at least so often, because it may step, ms. */
const LOOK_MS = 20_000
/** Until a VM that another job has is looked at again, ms. */
const BUSY_MS = 5000
/** So long a run waits for another job's VM or repository; then that is a failure of the run. */
const BUSY_AT_MOST_MS = 2 * 3_600_000
/** Likewise of a dispatcher that is to end when its queue is empty. */
const BUSY_ONCE_MS = 15 * 60_000

/**
 * Runs what is due, each VM as a run of its own: none delays or fails another. What begins beside what runs is `admit`'s to say, when something is due the
 * planner's, who of several agents runs it `DueClaims`'. Missed moments are caught up once. A window that closes ends nothing that runs.
 */
export class Dispatcher implements AsyncDisposable {
  readonly members: JobMembers
  readonly #options: DispatcherOptions
  readonly #agent: Agent
  readonly #claims: DueClaims
  readonly #sessions: RepositorySessions
  readonly #waiting = new Set<QueuedRun>()
  readonly #running = new Set<QueuedRun>()
  readonly #ended: RunRecord[] = []
  #config: AgentConfig
  #draining = false
  #refreshing: Promise<void> | undefined
  #refreshAt = 0
  #refreshedAt = Number.NEGATIVE_INFINITY
  #lastLook = 0
  readonly #ends: RunEnded[] = []
  /** Of each follower: none waits for what another one does long. */
  readonly #told = new Map<AfterRun, Promise<void>>()
  #wake: () => void = () => undefined
  #woken = false
  #once = false
  #closed = false

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#agent = options.agent
    this.#config = options.agent.config
    this.#claims = options.claims ?? soleAgent
    this.#sessions = new RepositorySessions(options.agent)
    this.members = new JobMembers(options.agent, this.#config)
  }

  get config(): AgentConfig {
    return this.#config
  }

  /** Most urgent first. */
  get waiting(): readonly QueuedRun[] {
    return [...this.#waiting].sort(byUrgency(this.#agent.clock.now().getTime()))
  }

  get running(): readonly QueuedRun[] {
    return [...this.#running]
  }

  /** What ended since `run` was called, for a dispatcher that ends. */
  get ended(): readonly RunRecord[] {
    return this.#ended
  }

  get draining(): boolean {
    return this.#draining
  }

  /** When something will be due as far as is known now; undefined when nothing is in sight. */
  get nextLook(): Date | undefined {
    const next = Math.min(...this.members.all.map(({ nextLook }) => nextLook))
    return Number.isFinite(next) ? new Date(next) : undefined
  }

  /** True: nothing new begins, what runs goes on. */
  drain(on: boolean): void {
    this.#draining = on
    this.wake()
  }

  /** Other jobs, repositories and notices from now on; what runs goes on with its own. */
  configure(config: AgentConfig): void {
    this.#config = config
    this.#agent.jobs = config.jobs
    this.members.configure(config)
    this.#refreshAt = 0
    this.wake()
  }

  /** Looks now: something is different. */
  wake(): void {
    this.#woken = true
    this.#wake()
  }

  /** Runs that somebody asked for, into the queue; they begin whatever the window says. `run`: their ids. */
  ask(
    vms: readonly { readonly vm: VmRef; readonly place: Place }[],
    { job, mode, by }: { readonly job: JobConfig | undefined; readonly mode: BackupMode | undefined; readonly by: string },
  ): readonly { readonly run: RunId; readonly vm: VmRef }[] {
    const now = this.#agent.clock.now()
    const runs = vms.map(({ vm, place }) => asked({ vm, place, job, mode, by }, this.#agent.ids.run(), now))
    for (const run of runs) this.#enqueue(run)
    this.wake()
    return runs.map(({ run, due }) => ({ run, vm: due.vm }))
  }

  /** Takes a run out of the queue that has not begun; its record says that it was canceled. */
  async cancelWaiting(queued: QueuedRun, reason: string): Promise<boolean> {
    if (!this.#waiting.delete(queued)) return false
    await this.#finish(queued, new AgentError('CANCELED', reason, { subject: queued.due.vm.name }))
    this.#tellEnds()
    return true
  }

  /** Until told to stop, or with `once` until nothing is left to do. Called once. Throws what concerns all runs, and with `once` a vCenter that does not answer. */
  async run({ stop, once = false }: DispatchOptions): Promise<void> {
    this.#once = once
    while (!stop.aborted) {
      this.#woken = false
      await this.#look()
      if (once && this.#closed && this.#waiting.size + this.#running.size === 0) break
      await this.#sleep(stop)
    }
    while (this.#running.size > 0) {
      this.#woken = false
      await this.#sleep(undefined)
    }
    await this.#refreshing
    await Promise.all(this.#told.values())
    for (const follower of this.#options.followers ?? []) await follower.settled?.()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sessions[Symbol.asyncDispose]()
  }

  async #look(): Promise<void> {
    let now = this.#agent.clock.now().getTime()
    if (now < this.#lastLook) for (const member of this.members.all) member.nextLook = 0
    this.#lastLook = now
    this.#refreshIfWanted(now)
    if (this.#once && !this.#closed) {
      await this.#refreshing
      // VMs that are new to their jobs are known since a moment ago.
      now = this.#agent.clock.now().getTime()
    }
    for (const queued of this.#waiting) if (!this.#isStillDue(queued, now)) this.#drop(queued)
    if (!this.#closed) this.#findDue(now)
    if (this.#once && !this.#closed) this.#closed = true
    if (this.#draining) return
    const ready = this.waiting.filter(({ notBefore }) => notBefore <= now)
    for (const queued of admit(ready, [...this.#running], this.#room())) this.#begin(queued)
  }

  #findDue(now: number): void {
    const busy = new Set([...this.#waiting, ...this.#running].map(({ member }) => member?.key))
    const late = now - this.#refreshedAt > FRESH_MS
    for (const member of this.members.all) {
      if (member.nextLook > now || busy.has(member.key)) continue
      const due = member.planner.due(member.record, now)
      if (due === undefined) {
        member.nextLook = member.planner.next(member.record, now) ?? Number.POSITIVE_INFINITY
      } else if (late) {
        // Which VMs the job has is to be known as of now; the look after that one finds it due.
        this.#refresh(now)
        return
      } else {
        this.#enqueue(wanted(member, due, this.#agent.ids.run(), new Date(now)))
      }
    }
  }

  #enqueue(queued: QueuedRun): void {
    this.#waiting.add(queued)
    const { vm } = queued.due
    this.#tell({ type: 'waiting', ...this.#at(), run: queued.run, job: queued.job?.name, vm })
  }

  /** Not after its window closed, its VM left the job, or another run made the point it was to make. */
  #isStillDue({ member, due }: QueuedRun, now: number): boolean {
    if (member === undefined) return true
    if (this.members.of(member.key) !== member) return false
    return (due.openUntil ?? Number.POSITIVE_INFINITY) > now && member.planner.due(member.record, now) !== undefined
  }

  #drop(queued: QueuedRun): void {
    this.#waiting.delete(queued)
    const { member, due } = queued
    if (member !== undefined) member.nextLook = 0
    const closed = (due.openUntil ?? Number.POSITIVE_INFINITY) <= this.#lastLook
    if (!closed) return
    this.#agent.log.warn('the window closed before a run could begin', {
      vm: due.vm.name,
      job: due.job,
      dueAt: new Date(due.dueAt).toISOString(),
    })
    const wait = queued.waitsFor === undefined ? '' : ` It waited: ${queued.waitsFor}`
    this.#tell({
      type: 'notice',
      ...this.#at(),
      level: 'warn',
      message: `The window of job ${due.job} closed before the run of VM ${due.vm.name} could begin.${wait}`,
    })
  }

  #room(): Room {
    const { parallel, limits } = this.#config
    return {
      proxy: parallel,
      vcenter: limits.runsPerVcenter,
      host: limits.runsPerHost,
      datastore: limits.snapshotsPerDatastore ?? DEFAULT_LIMITS.snapshotsPerDatastore,
    }
  }

  #begin(queued: QueuedRun): void {
    this.#waiting.delete(queued)
    this.#running.add(queued)
    const ended = async (): Promise<void> => {
      try {
        await this.#runOne(queued)
      } catch (error) {
        // Nothing that a run does ends the agent.
        this.#agent.log.error('a run could not be followed to its end', { vm: queued.due.vm.name, error: toAgentError(error).message })
      } finally {
        this.#running.delete(queued)
        this.#tellEnds()
        this.wake()
      }
    }
    void ended()
  }

  async #runOne(queued: QueuedRun): Promise<void> {
    const { due, member } = queued
    const { vm } = due
    const refusal = await this.#agent.locks.refusal(vm)
    if (refusal !== undefined) return this.#busy(queued, refusal)
    if (member !== undefined && !(await this.#claims.take(due))) {
      member.nextLook = this.#agent.clock.now().getTime() + CLAIM_AGAIN_MS
      return
    }
    const outcome = await runQueued({ agent: this.#agent, config: this.#config, sessions: this.#sessions }, queued, {
      onBegun: () => this.#tell({ type: 'begun', ...this.#at(), run: queued.run, job: queued.job?.name, vm, mode: due.mode }),
      onEvent: (event) => this.#tell(event),
    })
    if (outcome.record !== undefined) this.#noteEnded(queued, outcome.record)
    if (member !== undefined) await this.#claims.settle(due, outcome.record !== undefined)
    if (outcome.record === undefined) await this.#busy(queued, outcome.busy)
  }

  /** Another job has the VM or the repository: that is no failure, unless it takes hours. */
  async #busy(queued: QueuedRun, why: AgentError): Promise<void> {
    const now = this.#agent.clock.now().getTime()
    queued.busySince ??= now
    queued.waitsFor = why.message
    queued.notBefore = now + BUSY_MS
    queued.begunAt = undefined
    const patience = this.#once ? BUSY_ONCE_MS : BUSY_AT_MOST_MS
    if (now - queued.busySince < patience) {
      this.#agent.log.info('a run waits for another job', { vm: queued.due.vm.name, job: queued.job?.name, wait: why.message })
      this.#waiting.add(queued)
      return
    }
    await this.#finish(queued, why)
  }

  /** Of a run that never came to its VM. */
  async #finish(queued: QueuedRun, error: AgentError): Promise<void> {
    const record = await recordFailed({ agent: this.#agent, config: this.#config, sessions: this.#sessions }, queued, error)
    this.#noteEnded(queued, record)
  }

  #noteEnded({ job }: QueuedRun, record: RunRecord): void {
    this.members.note(record)
    if (this.#once) this.#ended.push(record)
    this.#tell({ type: 'ended', ...this.#at(), record })
    this.#ends.push({ record, job })
  }

  /** Only now that the run is none of those that run: what follows it may have to wait for the last of them. */
  #tellEnds(): void {
    const { followers = [] } = this.#options
    for (const ended of this.#ends.splice(0)) {
      for (const follower of followers) {
        const before = this.#told.get(follower) ?? Promise.resolve()
        this.#told.set(
          follower,
          before.then(() => tellRunEnded(follower, ended, this.#agent.log, { signal: this.#agent.signal })),
        )
      }
    }
  }

  #refreshIfWanted(now: number): void {
    const stepped = this.#refreshAt - now > REFRESH_MS
    if (this.#config.jobs.length > 0 && (now >= this.#refreshAt || stepped)) this.#refresh(now)
  }

  #refresh(now: number): void {
    if (this.#refreshing !== undefined) return
    this.#refreshAt = now + REFRESH_MS
    const refresh = async (): Promise<void> => {
      try {
        await this.members.refresh()
        this.#refreshedAt = now
      } catch (error) {
        if (this.#once) throw error
        this.#refreshAt = now + REFRESH_AGAIN_MS
        this.#agent.log.warn('the VMs of the jobs could not be asked for', { error: toAgentError(error).message })
      } finally {
        this.#refreshing = undefined
        this.wake()
      }
    }
    this.#refreshing = refresh()
    // Whoever waits for it gets its failure.
    this.#refreshing.catch(() => undefined)
  }

  async #sleep(stop: AbortSignal | undefined): Promise<void> {
    const now = this.#agent.clock.now().getTime()
    const moments = [
      ...this.members.all.map(({ nextLook }) => nextLook),
      ...[...this.#waiting].flatMap(({ notBefore, due }) => [notBefore, due.openUntil ?? Number.POSITIVE_INFINITY]),
      this.#refreshAt,
    ].filter((at) => at > now)
    const until = Math.min(LOOK_MS, ...moments.map((at) => at - now))
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    if (this.#woken) return
    try {
      await this.#agent.clock.sleep(Math.max(1, until), { signal: anySignal(woken.signal, stop) })
    } catch {
      // Woken, or told to stop.
    }
  }

  #tell(event: AgentEvent): void {
    this.#options.onEvent?.(event)
  }

  #at(): { readonly at: string } {
    return { at: this.#agent.clock.now().toISOString() }
  }
}
