import { tmpdir } from 'node:os'
import PQueue from 'p-queue'
import { anySignal, unlessAborted } from '../core/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import { createSpaceGuard, noSpaceGuard, type SpaceGuard } from '../snapshot/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { configForJob, repositoryForJob } from './job-config.ts'
import { outsideRuns } from './log-scope.ts'
import { createTransports } from './transports.ts'
import type { VmBackupParts } from './vm-backup.ts'

/** A repository nobody writes to is closed after so long: opening it again costs a second, its index memory. ms */
const IDLE_MS = 20_000

/** A run's share of an open repository; disposed when the run has ended. */
export type RepositoryUse = AsyncDisposable & {
  readonly parts: VmBackupParts
  /** Of the job that holds the repository open. */
  readonly partOf: AbortSignal
  /** Waits for the run's turn where the destination takes one at a time. CANCELED. */
  readonly turn: (signal: AbortSignal | undefined) => Promise<void>
}

type Session = {
  readonly provider: BackupProvider
  readonly canceled: AbortSignal
  readonly queue: PQueue
  /** Lets go of the repository; resolves when its job has ended. */
  readonly close: () => Promise<void>
}
type Entry = { readonly opening: Promise<Session>; uses: number; idle: AbortController | undefined }

/**
 * The repositories that runs of this agent write to, each opened once for all of them: its index, its worker threads and the job of the journal that finds
 * what a killed agent half wrote. Closed a while after the last run.
 */
export class RepositorySessions implements AsyncDisposable {
  readonly #agent: Agent
  readonly #entries = new Map<string, Entry>()
  #guard: Promise<SpaceGuard> | undefined

  constructor(agent: Agent) {
    this.#agent = agent
  }

  /** Errors: those of opening the repository or vCenter. */
  async use(config: AgentConfig, job: JobConfig | undefined): Promise<RepositoryUse> {
    const agent = this.#agent
    const own = configForJob(config, job)
    const vsphere = await agent.vsphere()
    const spaceGuard = await this.#spaceGuard(config)
    const repository = repositoryForJob(config, job)
    const entry = this.#entryOf(repository.url, () => this.#open(repository))
    entry.uses++
    entry.idle?.abort()
    entry.idle = undefined
    try {
      const { provider, canceled, queue } = await entry.opening
      const transports = createTransports({ ...partsOf(agent), config: own }, vsphere)
      const ended = Promise.withResolvers<void>()
      return {
        parts: { agent, config: own, vsphere, provider, transports, spaceGuard },
        partOf: canceled,
        turn: async (signal) => {
          const turned = Promise.withResolvers<void>()
          const place = queue.add(() => (turned.resolve(), ended.promise))
          await unlessAborted(Promise.race([turned.promise, place]), signal)
        },
        [Symbol.asyncDispose]: async () => {
          ended.resolve()
          await this.#release(repository.url, entry)
        },
      }
    } catch (error) {
      entry.uses--
      if (this.#entries.get(repository.url) === entry) this.#entries.delete(repository.url)
      throw error
    }
  }

  /** Closes all of them. Called when no run is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    for (const { opening, idle } of entries) {
      idle?.abort()
      await (await opening).close()
    }
    await (await this.#guard)?.[Symbol.asyncDispose]()
  }

  #entryOf(url: string, open: () => Promise<Session>): Entry {
    const known = this.#entries.get(url)
    if (known !== undefined) return known
    const entry: Entry = { opening: outsideRuns(open), uses: 0, idle: undefined }
    this.#entries.set(url, entry)
    return entry
  }

  async #open(repository: ReturnType<typeof repositoryForJob>): Promise<Session> {
    const agent = this.#agent
    const run = agent.ids.run()
    const provider = await agent.openRepository(repository, { run, init: false })
    const opened = Promise.withResolvers<AbortSignal>()
    const closing = Promise.withResolvers<void>()
    const held = agent.job(
      'run',
      { run, repository: provider.url },
      async (claims, signal) => {
        const destination = { url: provider.url, run, temporary: tmpdir() }
        await claims.take('repositoryWrite', destination, [], async () => destination)
        opened.resolve(signal ?? agent.signal)
        // Its parts give up by themselves; it is open until the last of them has ended.
        await closing.promise
      },
      {
        ofParts: true,
        onLeft: (left) => agent.log.warn('the repository is closed, but not everything is released', { error: left.message }),
      },
    )
    held.catch(opened.reject)
    const close = async (): Promise<void> => {
      closing.resolve()
      await using _provider = provider
      await held
    }
    try {
      const canceled = await opened.promise
      return {
        provider,
        canceled,
        close,
        queue: new PQueue({ concurrency: provider.oneAtATime === undefined ? Number.POSITIVE_INFINITY : 1 }),
      }
    } catch (error) {
      await provider[Symbol.asyncDispose]()
      throw error
    }
  }

  async #release(url: string, entry: Entry): Promise<void> {
    entry.uses--
    const session = await entry.opening
    // A job that was canceled cancels whatever is part of it: the next run needs another.
    if (session.canceled.aborted && this.#entries.get(url) === entry) this.#entries.delete(url)
    if (entry.uses > 0) return
    if (this.#entries.get(url) !== entry) return session.close()
    entry.idle = new AbortController()
    const { signal } = entry.idle
    void outsideRuns(() => this.#closeIdle(url, entry, session, signal))
  }

  async #closeIdle(url: string, entry: Entry, session: Session, used: AbortSignal): Promise<void> {
    const { clock, log, signal } = this.#agent
    try {
      await clock.sleep(IDLE_MS, { signal: anySignal(used, signal) })
    } catch {
      // In use again, or all of them are closed by whoever ends.
      return
    }
    if (this.#entries.get(url) !== entry || entry.uses > 0) return
    this.#entries.delete(url)
    await session.close().catch((error: unknown) => log.error('a repository could not be closed', { url, error: String(error) }))
  }

  #spaceGuard(config: AgentConfig): Promise<SpaceGuard> {
    const { clock, log } = this.#agent
    const open = async (): Promise<SpaceGuard> =>
      config.space.guard ? createSpaceGuard({ vsphere: await this.#agent.vsphere(), clock, log, ...config.space }) : noSpaceGuard()
    return (this.#guard ??= outsideRuns(open))
  }
}

const partsOf = ({ clock, random, nfcLimits, sshHosts, guest, marks }: Agent) => ({ clock, random, nfcLimits, sshHosts, guest, marks })
