import { AgentError, anySignal, isAgentError, toAgentError } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { CheckRecord } from '../history/index.ts'
import type { Claims } from '../journal/index.ts'
import type { PointStore, Problem, RepositorySize } from '../provider/index.ts'
import { createOpenHours } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import { type AfterCheck, tellCheckEnded } from './check-ended.ts'
import { checkedPlace, newCheckRecord, withShare, withSlice, withStructure } from './check-record.ts'
import type { AgentConfig } from './config/config.ts'
import type { NamedRepository } from './config/repositories.ts'
import { checkRuleOf } from './config/repository-check.ts'
import { type DueCheck, dueCheck } from './due-check.ts'

export type CheckerParts = {
  readonly agent: Agent
  readonly config: () => AgentConfig
  /** A run of this agent writes to the repository of this name, or waits to. */
  readonly isBusy: (repository: string) => boolean
  readonly followers: readonly AfterCheck[]
  /** Aborted when nothing new begins: a check ends then, however far it is. */
  readonly stop: AbortSignal
}

/** How often it looks what is due, ms. */
const LOOK_MS = 60_000

/** Why a check stops before its end: nobody's failure. */
const paused = (): AgentError =>
  new AgentError('CANCELED', 'The check gives way and goes on later.', { next: 'Nothing has to be done; what it has read is remembered.' })

/**
 * Checks each repository that jobs use by its rule, one at a time, and one of all agents that share a database: structure and a share of the data. It holds the
 * shared lock that backups take too, begins while no run of this agent writes there, and stops after the part it reads when one comes; what it has read is kept.
 */
export class RepositoryChecker implements AsyncDisposable {
  readonly #parts: CheckerParts
  readonly #stop = new AbortController()
  #looking: Promise<void> | undefined
  /** The check that runs. */
  #current: { readonly repository: string; readonly pause: AbortController; readonly ended: Promise<void> } | undefined
  #timer: Disposable | undefined

  readonly #ending: AbortSignal

  constructor(parts: CheckerParts) {
    this.#parts = parts
    this.#ending = anySignal(this.#stop.signal, parts.stop, parts.agent.signal) ?? this.#stop.signal
  }

  /** Looks now, and every `lookMs` until disposed. */
  start(lookMs = LOOK_MS): void {
    const { clock, log } = this.#parts.agent
    const onError = (error: unknown): void => log.warn('a look for due checks did not finish', { error: toAgentError(error).message })
    this.#timer = clock.every(lookMs, () => this.look(), onError)
    this.look().catch(onError)
  }

  /** Does what is due now; a second call meanwhile waits for the first. Errors of one repository are in the log. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined))
    return this.#looking
  }

  /** Ends the check of a repository that somebody wants for himself, and resolves when its lock is gone. */
  async yield(repository: string): Promise<void> {
    if (this.#current?.repository !== repository) return
    this.#current.pause.abort(paused())
    await this.#current.ended
  }

  /** Stops the check that runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    this.#stop.abort(paused())
    try {
      await this.#looking
    } catch {
      // Whoever looked has told it.
    }
  }

  async #look(): Promise<void> {
    const { agent, config, isBusy } = this.#parts
    for (const repository of checkedRepositories(config())) {
      if (this.#ending.aborted) return
      const due = await this.#due(repository)
      if (due === undefined || isBusy(repository.name)) continue
      const place = checkedPlace(repository.url)
      // Of all agents that count together one has it; the others look again later, and find it done.
      await using token = await agent.buckets.tokens(`check ${place}`, `checks of ${place}`, 1).tryTake(repository.name)
      const still = token === undefined ? undefined : await this.#due(repository)
      if (still !== undefined) await this.#check(repository, still)
    }
  }

  /** Undefined: nothing now. */
  async #due(repository: NamedRepository): Promise<DueCheck | undefined> {
    const { checks, clock } = this.#parts.agent
    const rule = checkRuleOf(repository)
    const now = clock.now()
    if (createOpenHours(rule.windows, [], rule.timeZone).closes(now.getTime()) === undefined) return undefined
    const place = checkedPlace(repository.url)
    const record = (await checks.of(place)) ?? (await checks.update(place, (known) => known ?? newCheckRecord(now)))
    const due = dueCheck(rule, record, now)
    return due.structure || due.slices.length > 0 ? due : undefined
  }

  async #check(repository: NamedRepository, due: DueCheck): Promise<void> {
    const { agent, followers } = this.#parts
    const { clock, log, checks } = agent
    const pause = new AbortController()
    const ended = Promise.withResolvers<void>()
    this.#current = { repository: repository.name, pause, ended: ended.promise }
    const begunAt = clock.now().toISOString()
    const done = { structure: false, slices: 0, found: [] as Problem[] }
    try {
      await using provider = await agent.openRepository(repository)
      const { points } = provider
      if (points === undefined) return
      await agent.job(
        'check',
        { repository: provider.url, by: 'schedule' },
        (claims, signal) => this.#work(points, repository, due, done, claims, [signal, pause]),
        {
          outcomeOf: () =>
            done.found.length === 0
              ? { result: 'succeeded' }
              : { result: 'failed', reason: `${done.found.length} problems, the first: ${done.found[0]?.what ?? ''}` },
        },
      )
    } catch (error) {
      if (!pause.signal.aborted && !this.#ending.aborted) logFailed(agent, repository, toAgentError(error))
    } finally {
      this.#current = undefined
      ended.resolve()
    }
    if (!done.structure && done.slices === 0) return
    const open = (await checks.of(checkedPlace(repository.url)))?.problems ?? []
    const told = { repository: repository.name, url: repository.url, structure: done.structure, slices: done.slices }
    log.info('a repository was checked', { ...told, found: done.found.length, open: open.length })
    for (const { what } of done.found) log.error('a repository is damaged', { repository: repository.url, what })
    const endedAt = clock.now().toISOString()
    const found = done.found.map((problem) => ({ ...problem, at: endedAt }))
    await tellCheckEnded(followers, { ...told, begunAt, endedAt, found, open }, log, { signal: agent.signal })
  }

  async #work(
    points: PointStore,
    { name, url }: NamedRepository,
    due: DueCheck,
    done: { structure: boolean; slices: number; found: Problem[] },
    claims: Claims,
    [signal, pause]: readonly [AbortSignal | undefined, AbortController],
  ): Promise<void> {
    const { agent, isBusy } = this.#parts
    const { checks, clock } = agent
    const keep = (change: (record: CheckRecord) => CheckRecord): Promise<CheckRecord> =>
      checks.update(checkedPlace(url), (known) => change(known ?? newCheckRecord(clock.now())))
    const options = { signal: anySignal(signal, pause.signal, this.#ending), recordLocks: recordLocks(claims) }
    if (due.structure) {
      let size: RepositorySize | undefined
      const problems: Problem[] = []
      for await (const problem of points.check(undefined, { ...options, onSize: (measured) => (size = measured) })) problems.push(problem)
      await keep((record) => withStructure(record, problems, size, clock.now()))
      done.structure = true
      done.found.push(...problems)
    }
    if (due.slices.length === 0) return
    let ofSlice: Problem[] = []
    const onSlice = async (slice: number): Promise<void> => {
      const read = ofSlice
      ofSlice = []
      await keep((record) => withSlice(record, slice, read, clock.now()))
      done.slices++
      done.found.push(...read)
      if (isBusy(name)) pause.abort(paused())
      options.signal?.throwIfAborted()
    }
    const wanted = { ...options, readData: true, structure: false, slices: due.slices, onSlice }
    for await (const problem of points.check(undefined, wanted)) ofSlice.push(problem)
    await keep((record) => withShare(record, clock.now()))
  }
}

/** What found the repository taken, or away, comes again by itself. */
function logFailed({ log }: Agent, { name, url }: NamedRepository, error: AgentError): void {
  const later = isAgentError(error, 'CONFLICT', 'UNAVAILABLE', 'CANCELED')
  const facts = { repository: name, url, error: error.message }
  if (later) log.info('a check is tried again later', facts)
  else log.error('a check did not come to its end', facts)
}

/** Those that jobs write to, each once. */
export function checkedRepositories({ jobs, repositories }: Pick<AgentConfig, 'jobs' | 'repositories'>): readonly NamedRepository[] {
  const used = new Set(jobs.flatMap(({ repository, copyTo }) => [repository, ...copyTo]))
  const seen = new Set<string>()
  return repositories.filter(({ name, url }) => used.has(name) && !seen.has(checkedPlace(url)) && seen.add(checkedPlace(url)) !== undefined)
}
