import { randomBytes } from 'node:crypto'
import { homedir, hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import type { Catalog } from '../catalog/index.ts'
import {
  AgentError,
  anySignal,
  type ClaimId,
  type Clock,
  createIds,
  createMarks,
  type Ids,
  type Log,
  type Marks,
  type RunId,
  type RunRecord,
  toAgentError,
  type Secret,
} from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { RecoverRequest } from '../flow/index.ts'
import type { JobVms, RepositoryChecks, RepositoryPrunes, RepositoryRenewals, RunHistory } from '../history/index.ts'
import type { ToldMarks } from '../notices/index.ts'
import {
  CancelWatch,
  claimReport,
  type Journal,
  type JobWork,
  LeftError,
  type Processes,
  type ProcessLookup,
  type RecoveryReport,
  type Releasers,
  runJob,
  sameProcess,
  type RunJobOptions,
  type VmLocks,
} from '../journal/index.ts'
import {
  type BackupProvider,
  hasRepository,
  isOwnRepository,
  keptByProduct,
  openProvider,
  type OpenProviderOptions,
  type PlaceDeps,
  type PointStore,
  type ProductDeps,
} from '../provider/index.ts'
import type { GuestScripts } from '../quiesce/index.ts'
import { StagePrograms } from '../stages/index.ts'
import { hasAgentId, openAgentId, openLockEnds } from '../state/index.ts'
import type { SnapshotChanges } from '../snapshot/index.ts'
import type { SshHosts } from '../ssh/index.ts'
import { type Buckets, createLimits, type Limits, type NfcLimits, ProxyGuest } from '../transport/index.ts'
import { connectVsphere, type Vsphere } from '../vsphere/index.ts'
import type { AgentConfig } from './config/config.ts'
import type { JobConfig } from './config/jobs.ts'
import { createGuestScripts } from './guest-scripts.ts'
import { readSecret, type SecretSource } from './config/secret-source.ts'
import { bandwidthAt } from './config/quantity.ts'
import { outsideRuns } from './log-scope.ts'
import { snapshotChangesOf } from './snapshot-changes.ts'
import { openAgentState, type OpenedState, type SharedProxies } from './open-state.ts'
import { repositoryAccess } from './repository-access.ts'
import { sshHostsOf } from './ssh-hosts.ts'
import { cutOffRecord } from './vm-run-record.ts'

/** After a failed connection the next one is tried no sooner, ms. */
const RECONNECT_MS = 900

/** Finished jobs are listed for so long and up to so many. */
const KEPT_JOBS = 1000
const KEPT_JOBS_MS = 90 * 24 * 3_600_000
/** Whatever their age, so that a clock that stepped far ahead does not take the history with it. */
const KEPT_AT_LEAST = 100
const PRUNE_MS = 3_600_000
/** What became of runs is remembered for a year and a month. */
const KEPT_RUNS_MS = 396 * 24 * 3_600_000
const KEPT_RUNS_AT_LEAST = 10_000

export type AgentDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Aborted when the command is to end. */
  readonly signal: AbortSignal
  /** Aborted when nothing more is waited for: what is held then stays listed. */
  readonly giveUp?: AbortSignal | undefined
  /** Where `tar:-` writes. */
  readonly stdout?: Writable | undefined
  /** `agent` for the one that takes work by itself. */
  readonly kind?: 'agent' | 'command' | undefined
}

export type OpenRepositoryOptions = {
  readonly init?: boolean | undefined
  readonly exportFormat?: ExportFormat | undefined
  readonly exportName?: OpenProviderOptions['exportName']
  /** Marks what its writers half write. */
  readonly run?: RunId | undefined
  /** Whoever opens it is sure to read disks; with a `run`, to write them. */
  readonly startThreads?: boolean | undefined
}

/**
 * The composition root: everything a command uses, opened on first use and closed once. One serves one command line, or all jobs of `vcb agent`, whose runs
 * lay their job's settings over `config` (`configForJob`) and share the rest. The journal and the catalog are shared with every other vcb on this proxy through the
 * state directory.
 */
export class Agent implements AsyncDisposable {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  readonly ids: Ids
  /** What this installation writes on everything it makes in vSphere. */
  readonly marks: Marks
  /** Those of this proxy, or of all that share its database. */
  readonly processes: Processes & ProcessLookup
  /** What several proxies know of each other; undefined where this one is alone. */
  readonly proxies: SharedProxies | undefined
  readonly journal: Journal
  readonly locks: VmLocks
  /** What all runs of this process take of vSphere at most. */
  readonly limits: Limits
  /** Where they are counted, over all processes of this proxy. */
  readonly buckets: Buckets
  readonly nfcLimits: NfcLimits
  /** Hosts whose shell may be used, with the connections of all runs of this process. */
  readonly sshHosts: SshHosts
  /** Who changes the snapshots at one server. */
  readonly snapshotChanges: (vsphere: Vsphere) => SnapshotChanges
  /** This machine, as the guest of a proxy VM. */
  readonly guest: ProxyGuest
  readonly random: (size: number) => Uint8Array = randomBytes
  /** Scripts in guests. */
  readonly scripts: GuestScripts
  /** Programs of this proxy around the runs of jobs. */
  readonly stages: StagePrograms
  /** Those whose programs recovery runs. */
  jobs: readonly JobConfig[]
  readonly catalog: Catalog
  /** How the runs of all VMs ended. */
  readonly history: RunHistory
  /** Since when jobs know their VMs. */
  readonly jobVms: JobVms
  /** What people were told last. */
  readonly toldMarks: ToldMarks
  /** When repositories were pruned last. */
  readonly prunes: RepositoryPrunes
  /** How far the checks of repositories are. */
  readonly checks: RepositoryChecks
  /** How far the renewals of the Object Locks of repositories are. */
  readonly renewals: RepositoryRenewals
  /**
   * With the first job, and before it takes anything: what only reads has nothing to release, and an installation may get another version while a lease is
   * held, whose files are not to be met by a release.
   */
  readonly #releasers: () => Promise<Releasers>
  /** The same for recovery, which tries each claim once a pass. */
  readonly #atOnce: () => Promise<Releasers>
  /** What ends jobs of this process before their time. */
  readonly cancels: CancelWatch
  readonly #giveUp: AbortSignal | undefined
  /** Name of this machine in a journal of several. */
  readonly #host: string | undefined
  #prunedAt = Number.NEGATIVE_INFINITY
  readonly #cutOff: RunRecord[] = []
  /** By URL. */
  readonly #secrets = new Map<string, Promise<Secret>>()
  readonly #stack: AsyncDisposableStack
  readonly #stdout: Writable | undefined
  #vsphere: Promise<Vsphere> | undefined
  #vsphereFailedAt: number | undefined
  #provider: Promise<BackupProvider> | undefined

  private constructor(
    config: AgentConfig,
    deps: AgentDeps,
    opened: OpenedState & { readonly ids: Ids; readonly marks: Marks; readonly stack: AsyncDisposableStack },
  ) {
    this.config = config
    this.clock = deps.clock
    this.log = deps.log
    this.signal = deps.signal
    this.#stdout = deps.stdout
    this.ids = opened.ids
    this.marks = opened.marks
    this.processes = opened.processes
    this.proxies = opened.proxies
    this.journal = opened.journal
    this.locks = opened.locks
    this.sshHosts = opened.stack.use(sshHostsOf(config.ssh, { clock: deps.clock, log: deps.log }))
    this.snapshotChanges = snapshotChangesOf(config.ssh, this.sshHosts)
    const { bandwidth } = config.limits
    const rate = bandwidth.length === 0 ? undefined : () => bandwidthAt(bandwidth, deps.clock.now())
    this.buckets = opened.buckets
    this.limits = createLimits({ ...config.limits, rate }, { ...deps, buckets: opened.buckets })
    this.nfcLimits = this.limits.nfc
    this.guest = new ProxyGuest({ ...config.hotadd, clock: deps.clock })
    this.scripts = createGuestScripts(config.guestScripts, deps, opened.stack)
    this.jobs = config.jobs
    const programsOf = (name: string) => this.jobs.find((job) => job.name === name)?.stages
    this.stages = new StagePrograms({ clock: deps.clock, log: deps.log, programsOf })
    this.catalog = opened.catalog
    this.history = opened.history
    this.jobVms = opened.jobVms
    this.toldMarks = opened.toldMarks
    this.prunes = opened.prunes
    this.checks = opened.checks
    this.renewals = opened.renewals
    this.#stack = opened.stack
    const patient = (forMs: number): (() => Promise<Releasers>) => {
      let made: Promise<Releasers> | undefined
      return () => (made ??= this.#createReleasers(forMs))
    }
    this.#releasers = patient(config.releaseForMs)
    this.#atOnce = patient(0)
    this.#giveUp = deps.giveUp
    const { journal, clock, log, signal } = this
    const { fenced } = opened
    this.#host = opened.host
    const ends = { all: signal, giveUp: deps.giveUp, fenced, deadlineMs: config.cancelDeadlineMs }
    this.cancels = new CancelWatch({ requests: journal, clock, log, ...ends })
  }

  async #createReleasers(forMs: number): Promise<Releasers> {
    const { createReleasePatience, createReleasers } = await import('../flow/index.ts')
    const { clock, log } = this
    return createReleasers({
      vsphere: () => this.vsphere(),
      locks: this.locks,
      changes: this.snapshotChanges,
      guest: this.guest,
      destinations: async (url) => ({ product: await this.#productDeps(url), place: this.placeDeps }),
      clock,
      scripts: this.scripts,
      stages: this.stages,
      patience: createReleasePatience({ clock, log, forMs }),
    })
  }

  /** Opens the state directory, and the database that proxies share. Errors: CONFIG, INTEGRITY (damaged), CONFLICT, UNAVAILABLE, AUTH. */
  static async open(config: AgentConfig, deps: AgentDeps): Promise<Agent> {
    await using stack = new AsyncDisposableStack()
    const { clock } = deps
    const known = await hasAgentId(config.stateDirectory)
    const ids = createIds()
    // The id of an installation with a file of its own is written once that file is complete.
    const early = config.sharedState === undefined ? undefined : await openAgentId(config.stateDirectory, () => ids.agent())
    const parts = { clock, log: deps.log, ids, agent: early ?? ids.agent(), kind: deps.kind ?? 'command', known } as const
    const opened = await openAgentState(config, parts, stack)
    const agent = early ?? (await openAgentId(config.stateDirectory, () => ids.agent()))
    const marks = createMarks({ agent, host: hostname(), pid: process.pid, clock })
    const signal = anySignal(deps.signal, opened.fenced) ?? deps.signal
    return new Agent(config, { ...deps, signal }, { ...opened, ids, marks, stack: stack.move() })
  }

  /**
   * The session, logged in on first use. A connection that failed is tried again by the next call, but not at once: each of a hundred claims of a
   * vCenter that is away would wait for it. USAGE when no connection is configured.
   */
  vsphere(): Promise<Vsphere> {
    if (this.#vsphereFailedAt !== undefined && this.clock.monotonicMs() - this.#vsphereFailedAt > RECONNECT_MS) this.#vsphere = undefined
    if (this.#vsphere !== undefined) return this.#vsphere
    this.#vsphereFailedAt = undefined
    const connecting = outsideRuns(() => this.#connect())
    connecting.catch(() => {
      this.#vsphereFailedAt = this.clock.monotonicMs()
    })
    this.#vsphere = connecting
    return connecting
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

  /** How the servers of repositories are reached. */
  get placeDeps(): PlaceDeps {
    const { clock, log, random } = this
    const user = { username: userInfo().username, home: homedir(), environment: process.env }
    return { clock, log, random, access: repositoryAccess(this.config, user) }
  }

  /** The repository, opened on first use and closed with this; `init` makes one where there is none. USAGE when none is configured. */
  provider(options: Pick<OpenRepositoryOptions, 'init' | 'startThreads'> = {}): Promise<BackupProvider> {
    this.#provider ??= this.openProvider(options).then((opened) => this.#stack.use(opened))
    return this.#provider
  }

  /** The same for one run, which marks what it half writes with its own id; for the caller to dispose. */
  async openProvider(options: OpenRepositoryOptions = {}): Promise<BackupProvider> {
    const { url, password } = this.config.repository
    if (url === undefined)
      throw new AgentError('USAGE', 'No repository was given.', { next: 'Give --repo, or set VCB_REPO or repository.url in vcb.yaml.' })
    return this.openRepository({ url, password }, options)
  }

  /** A repository by its URL, for the caller to dispose; `init` makes one where there is none. */
  async openRepository(
    { url, password }: { readonly url: string; readonly password: SecretSource },
    options: OpenRepositoryOptions = {},
  ): Promise<BackupProvider> {
    const secret = await this.#repositoryPassword(url, password)
    const open = (recordNew?: OpenProviderOptions['recordNew']): Promise<BackupProvider> =>
      openProvider(url, {
        clock: this.clock,
        log: this.log,
        random: this.random,
        hostname: hostname(),
        username: userInfo().username,
        pid: process.pid,
        password: secret,
        init: options.init,
        recordNew,
        run: options.run,
        startThreads: options.startThreads ?? options.run !== undefined,
        access: this.placeDeps.access,
        exportFormat: options.exportFormat,
        exportName: options.exportName,
        compression: this.config.compression,
        environment: process.env,
        cacheDirectory: join(this.config.stateDirectory, 'cache', 'index'),
        lockEnds: (directory) => openLockEnds({ directory, clock: this.clock, log: this.log }),
        stdout: this.#stdout,
        signal: this.signal,
      })
    return options.init === true && isOwnRepository(url) ? this.#openOrMake(url, open) : open()
  }

  /** Of a product's repository only when it was given: it may have the password from elsewhere. Read once: it may be on standard input. */
  #repositoryPassword(url: string, source: SecretSource): Promise<Secret> | undefined {
    const given = source.file !== undefined || source.env !== undefined
    if (!isOwnRepository(url) && !(keptByProduct(url) && given)) return undefined
    const known = this.#secrets.get(url)
    if (known !== undefined) return known
    const reading = readSecret(source, 'repository password', '--repo-password-file')
    this.#secrets.set(url, reading)
    reading.catch(() => this.#secrets.delete(url))
    return reading
  }

  /** For what a dead run left in a product's repository. */
  async #productDeps(url: string): Promise<ProductDeps | undefined> {
    if (!keptByProduct(url)) return undefined
    const { clock, log } = this
    const named = this.config.repositories.find((each) => each.url === url) ?? this.config.repository
    const password = await this.#repositoryPassword(url, named.password)
    return { clock, log, environment: process.env, password }
  }

  /** What is there is only opened. What is made is a claim until it is complete, so that half a repository does not stay. */
  async #openOrMake(url: string, open: (recordNew?: OpenProviderOptions['recordNew']) => Promise<BackupProvider>): Promise<BackupProvider> {
    if (await hasRepository(url, this.placeDeps)) return open()
    return this.job('init', { repository: url }, async (claims) => {
      let made: ClaimId | undefined
      const provider = await open(async (repository) => {
        made = (await claims.take('newRepository', repository, [], async () => repository)).id
      })
      if (made !== undefined) await claims.keep(made)
      return provider
    })
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

  /** One job in the journal around `work`; what it takes is released whatever happens. `work` gets the signal that cancels this job. */
  async job<T>(
    kind: string,
    args: unknown,
    work: JobWork<T>,
    options: Pick<RunJobOptions<T>, 'partOf' | 'ofParts' | 'onLeft' | 'outcomeOf'> = {},
  ): Promise<T> {
    await this.#prune()
    return runJob({ journal: this.journal, releasers: await this.#releasers(), cancels: this.cancels, kind, args, ...options }, work)
  }

  /** Old finished jobs are forgotten once per command that begins one; by one that runs for long, once an hour. */
  async #prune(): Promise<void> {
    if (this.clock.monotonicMs() - this.#prunedAt < PRUNE_MS) return
    this.#prunedAt = this.clock.monotonicMs()
    try {
      const now = this.clock.now().getTime()
      await this.journal.prune({ jobs: KEPT_JOBS, before: new Date(now - KEPT_JOBS_MS), atLeast: KEPT_AT_LEAST })
      await this.history.prune(new Date(now - KEPT_RUNS_MS), KEPT_RUNS_AT_LEAST)
    } catch (error) {
      this.log.warn('old jobs could not be forgotten', { error: toAgentError(error).message })
    }
  }

  /** Releases what dead processes left: one pass, or passes until nothing is left or `forMs` is over. */
  async recover(request: RecoverRequest = {}): Promise<RecoveryReport> {
    const { journal, processes, clock, log } = this
    const limit = { deadline: this.signal, abandoned: this.#giveUp }
    const { recover } = await import('../flow/index.ts')
    const report = await recover({ journal, releasers: await this.#atOnce(), processes, clock, log, limit, host: this.#host }, request)
    for (const record of report.recovered.flatMap((job) => cutOffRecord(job, clock.now()))) {
      await this.history.add(record)
      this.#cutOff.push(record)
    }
    return report
  }

  /** Runs that a recovery of this process wrote down as cut off, since this was asked last; for who tells of them. */
  takeCutOff(): readonly RunRecord[] {
    return this.#cutOff.splice(0)
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

  /**
   * Gives away every job of this process that has not ended, for any recovery to take over; what they hold, as one error. For a command that the
   * user no longer waits for; undefined when nothing is held. `first` is why.
   */
  async abandonJobs(first: unknown): Promise<LeftError | undefined> {
    const self = await this.processes.self()
    const mine = (await this.journal.unfinished()).filter((job) => sameProcess(job.owner, self))
    const held = mine.flatMap((job) => job.claims)
    for (const job of mine) await this.journal.disown(job.id, undefined, { result: 'canceled', reason: toAgentError(first).message })
    if (held.length === 0) return undefined
    const reason = 'its release had not ended'
    const kept = held.map((claim) => ({ ...claimReport(claim), result: 'kept', reason }) as const)
    return new LeftError(kept, { first: toAgentError(first) })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}
