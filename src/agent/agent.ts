import { randomBytes } from 'node:crypto'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { type Catalog, openSqliteCatalog } from '../catalog/index.ts'
import { AgentError, type Clock, createIds, createMarks, type Ids, type Log, type Marks, toAgentError } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import { createReleasers, recover } from '../flow/index.ts'
import {
  type Claims,
  type Journal,
  openSqliteJournal,
  type Processes,
  type RecoveryReport,
  type Releasers,
  runJob,
  SqliteVmLocks,
  systemProcesses,
  type VmLocks,
} from '../journal/index.ts'
import { type BackupProvider, openProvider, type PointStore } from '../provider/index.ts'
import { openAgentId, openState } from '../state/index.ts'
import { connectVsphere, type Vsphere } from '../vsphere/index.ts'
import { type AgentConfig, readSecret } from './config.ts'

export type AgentDeps = {
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  /** Where `tar:-` writes. */
  readonly stdout?: Writable | undefined
}

/**
 * The composition root: everything a command uses, opened on first use and closed once. One agent serves one command line; the journal and the
 * catalog are shared with every other vcb on this proxy through the state directory.
 */
export class Agent implements AsyncDisposable {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  readonly ids: Ids
  /** What this installation writes on everything it makes in vSphere. */
  readonly marks: Marks
  readonly processes: Processes
  readonly journal: Journal
  readonly locks: VmLocks
  readonly catalog: Catalog
  readonly releasers: Releasers
  readonly #stack: AsyncDisposableStack
  readonly #stdout: Writable | undefined
  #vsphere: Promise<Vsphere> | undefined
  #provider: Promise<BackupProvider> | undefined

  private constructor(
    config: AgentConfig,
    deps: AgentDeps,
    opened: { journal: Journal; locks: VmLocks; catalog: Catalog; ids: Ids; marks: Marks; stack: AsyncDisposableStack },
  ) {
    this.config = config
    this.clock = deps.clock
    this.log = deps.log
    this.signal = deps.signal
    this.#stdout = deps.stdout
    this.ids = opened.ids
    this.marks = opened.marks
    this.processes = systemProcesses
    this.journal = opened.journal
    this.locks = opened.locks
    this.catalog = opened.catalog
    this.#stack = opened.stack
    this.releasers = createReleasers({ vsphere: () => this.vsphere(), locks: this.locks })
  }

  /** Opens the state directory. Errors: CONFIG, INTEGRITY (damaged), CONFLICT. */
  static async open(config: AgentConfig, deps: AgentDeps): Promise<Agent> {
    await using stack = new AsyncDisposableStack()
    const { clock } = deps
    const state = stack.use(await openState(join(config.stateDirectory, 'state.sqlite')))
    const ids = createIds()
    const agent = await openAgentId(config.stateDirectory, () => ids.agent())
    const marks = createMarks({ agent, host: hostname(), pid: process.pid, clock })
    const journal = await openSqliteJournal({ state, clock, ids, processes: systemProcesses })
    const locks = new SqliteVmLocks({ state, clock, processes: systemProcesses })
    return new Agent(config, deps, { journal, locks, catalog: openSqliteCatalog(state), ids, marks, stack: stack.move() })
  }

  /** The session, logged in on first use. USAGE when no connection is configured. */
  vsphere(): Promise<Vsphere> {
    this.#vsphere ??= this.#connect()
    return this.#vsphere
  }

  async #connect(): Promise<Vsphere> {
    const { url, user, password, thumbprint, caFile } = this.config.vcenter
    const next = 'Give --vcenter, --user and --password-file, or set them in vcb.yaml; see "vcb help connection".'
    if (url === undefined) throw new AgentError('USAGE', 'No vCenter or ESXi was given.', { next })
    if (user === undefined) throw new AgentError('USAGE', 'No login name was given.', { next })
    const vsphere = await connectVsphere(
      {
        url,
        user,
        password: await readSecret(password, 'vSphere password', '--password-file'),
        trust: { thumbprint, caFile },
        clock: this.clock,
        log: this.log,
        operationId: `vcb-${this.ids.run().slice(0, 8)}`,
      },
      { signal: this.signal },
    )
    return this.#stack.use(vsphere)
  }

  /** The repository, opened on first use; `init` makes one where there is none. USAGE when none is configured. */
  provider(
    options: { readonly init?: boolean | undefined; readonly exportFormat?: ExportFormat | undefined } = {},
  ): Promise<BackupProvider> {
    this.#provider ??= this.#openProvider(options)
    return this.#provider
  }

  async #openProvider(options: {
    readonly init?: boolean | undefined
    readonly exportFormat?: ExportFormat | undefined
  }): Promise<BackupProvider> {
    const { url, password } = this.config.repository
    if (url === undefined)
      throw new AgentError('USAGE', 'No repository was given.', { next: 'Give --repo, or set VCB_REPO or repository.url in vcb.yaml.' })
    const secret = /^(tar|dir):/.test(url) ? undefined : await readSecret(password, 'repository password', '--repo-password-file')
    const provider = await openProvider(url, {
      clock: this.clock,
      log: this.log,
      random: randomBytes,
      hostname: hostname(),
      username: userInfo().username,
      pid: process.pid,
      password: secret,
      init: options.init,
      exportFormat: options.exportFormat,
      stdout: this.#stdout,
      signal: this.signal,
    })
    return this.#stack.use(provider)
  }

  /** The repository's points. USAGE for a destination that cannot be read back. */
  async points(): Promise<PointStore> {
    const provider = await this.provider()
    if (provider.points === undefined) {
      throw new AgentError('USAGE', `${provider.url} takes a stream; its restore points cannot be listed.`, {
        next: 'Name a repository, a directory or an archive file.',
      })
    }
    return provider.points
  }

  /** One job in the journal around `work`; what it takes is released whatever happens. */
  job<T>(kind: string, args: unknown, work: (claims: Claims) => Promise<T>): Promise<T> {
    return runJob({ journal: this.journal, releasers: this.releasers, kind, args }, work)
  }

  /** Releases what dead processes left. */
  recover(): Promise<RecoveryReport> {
    const { journal, releasers, processes, clock, log } = this
    return recover({ journal, releasers, processes, clock, log })
  }

  /**
   * Recovery before new work, when there is anything to recover. A left-over that cannot be released now is reported in the log and by
   * `vcb recover`; it stops new work only where it is in the way (the VM's lock).
   */
  async recoverFirst(): Promise<void> {
    if ((await this.journal.unfinished()).length === 0) return
    try {
      await this.recover()
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTEGRITY') throw error
      this.log.warn('recovery before the run did not finish', { error: shown.message })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}
