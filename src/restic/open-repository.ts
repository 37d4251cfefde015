import { availableParallelism, endianness } from 'node:os'
import { join } from 'node:path'
import { type Abortable, AgentError, anySignal, isAgentError, type Secret, throwIfAborted, toAgentError } from '../core/index.ts'
import { type Backend, CONFIG_FILE } from './backend.ts'
import { type BlobOpener, BlobStore } from './blob-store.ts'
import { checkRepository } from './check-repository.ts'
import { ciphersFor } from './ciphers.ts'
import { isHexId } from './ids.ts'
import { IndexCache } from './index-cache/index-cache.ts'
import { IndexStore } from './index-store.ts'
import { createKeyFile, DEFAULT_KDF, type OpenedKey } from './key-file.ts'
import { KeyFiles } from './key-store.ts'
import type { LockEnds } from './lock-ends.ts'
import { openKeyFile } from './open-key.ts'
import { pruneRepository } from './prune-repository.ts'
import { randomPolynomial } from './polynomial.ts'
import type {
  BlobReader,
  CheckOptions,
  Complete,
  KdfParameters,
  KeyStore,
  PruneOptions,
  PruneReport,
  RenewOptions,
  RenewReport,
  Repository,
  RepositoryDeps,
  RepositoryLease,
  RepositoryOptions,
  RepositoryProblem,
  RepositoryWriter,
  SnapshotStore,
  WriteLocking,
} from './repository.ts'
import { ReadEngine } from './read-engine.ts'
import { renewLocks } from './renew-locks.ts'
import { type Locking, refuseConflicts, RepositoryLock } from './repository-lock.ts'
import { SnapshotWriter } from './repository-writer.ts'
import { SealedFiles } from './sealed-files.ts'
import { SealThreads } from './seal-threads.ts'
import type { SealKey } from './sealing.ts'
import { isRecord } from './snapshot.ts'
import { SnapshotFiles } from './snapshot-files.ts'
import { treeLevel } from './compression.ts'
import { WriteEngine } from './write-engine.ts'
import { WriteMemory, type WriteSettings } from './write-memory.ts'
import { zstdCodec } from './zstd-codec.ts'

const MIB = 1024 * 1024

/**
 * Makes a new repository in an empty backend and opens it. CONFLICT when there is one already; CAPACITY, UNAVAILABLE.
 * `kdf` is for tests, which cannot spend half a second on each key. `recordKey` is told the name of the key file, the first file made, before it
 * is there: `removeUnfinished` of its place needs it should this never end.
 */
export async function initRepository(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  options: RepositoryOptions & {
    readonly kdf?: KdfParameters | undefined
    readonly recordKey?: ((name: string) => Promise<void>) | undefined
  } = {},
): Promise<Repository> {
  const settings = settingsOf(options)
  if (password.reveal() === '') throw new AgentError('CONFIG', 'A repository cannot be made with an empty password.')
  if ((await backend.stat(CONFIG_FILE, options)) !== undefined) {
    throw new AgentError('CONFLICT', `There is a repository at ${backend.url} already.`, {
      subject: backend.url,
      next: 'Open it instead of making a new one, or name another place.',
      retry: 'never',
    })
  }
  for await (const { name } of backend.list('key', options)) {
    throw new AgentError('CONFLICT', `${backend.url} holds the key file ${name} but no repository configuration.`, {
      subject: backend.url,
      next: 'This may be a damaged repository: restore its config file, or name an empty place.',
      retry: 'never',
    })
  }
  await using stack = new AsyncDisposableStack()
  const threads = stack.use(new SealThreads(settings.workers, settings.codec))
  if (options.startThreads === true) threads.start()
  const opened = await createKeyFile(backend, password, deps, options.kdf ?? DEFAULT_KDF, options)
  threads.unlock(opened.master)
  const id = Buffer.from(deps.random(32)).toString('hex')
  const polynomial = randomPolynomial(deps.random).toString(16)
  const files = new SealedFiles(backend, opened.master, deps.random)
  // Last, and it makes the directory layout: what has no configuration is no repository.
  await files.saveConfig(CONFIG_FILE, Buffer.from(`{"version":2,"id":"${id}","chunker_polynomial":"${polynomial}"}`), options)
  stack.move()
  return new ResticRepository(id, { files, opened, threads, deps, settings }, options)
}

/**
 * Opens a repository, ours or one made by stock restic. NOT_FOUND when there is none, AUTH for a wrong password, CONFIG for format
 * version 1 or one not known. The backend stays the caller's to dispose.
 */
export async function openRepository(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  options: RepositoryOptions = {},
): Promise<Repository> {
  const settings = settingsOf(options)
  if ((await backend.stat(CONFIG_FILE, options)) === undefined) {
    throw new AgentError('NOT_FOUND', `There is no restic repository at ${backend.url}.`, {
      subject: backend.url,
      next: 'Check the path, or make a repository there first.',
    })
  }
  await using stack = new AsyncDisposableStack()
  const threads = stack.use(new SealThreads(settings.workers, settings.codec))
  const start = (): void => void (options.startThreads === true && threads.start())
  const opened = await openKeyFile(backend, password, deps, { signal: options.signal, onDear: start })
  start()
  threads.unlock(opened.master)
  const files = new SealedFiles(backend, opened.master, deps.random)
  const config = await files.loadJson(CONFIG_FILE, options)
  const { version, id } = isRecord(config) ? config : {}
  if (version === 1) {
    throw new AgentError('CONFIG', `The repository ${backend.url} has format version 1, which is not written to.`, {
      subject: backend.url,
      next: 'Upgrade it with "restic migrate upgrade_repo_v2", then run the command again.',
    })
  }
  if (version !== 2) {
    throw new AgentError(
      'CONFIG',
      `The repository ${backend.url} has format version ${JSON.stringify(version)}; only version 2 is known.`,
      {
        subject: backend.url,
        next: 'Use a newer release of vcb, or another repository.',
      },
    )
  }
  if (!isHexId(id)) throw new AgentError('INTEGRITY', `The configuration of the repository ${backend.url} has no valid id.`)
  stack.move()
  return new ResticRepository(id, { files, opened, threads, deps, settings }, options)
}

type Parts = {
  readonly files: SealedFiles
  readonly opened: OpenedKey
  /** The repository's own from now on. */
  readonly threads: SealThreads
  readonly deps: RepositoryDeps
  readonly settings: WriteSettings
}

class ResticRepository implements Repository {
  readonly id: string
  readonly url: string
  readonly snapshots: SnapshotStore
  readonly keys: KeyStore
  readonly #blobs: BlobStore
  readonly #reading: ReadEngine
  readonly #files: SealedFiles
  readonly #key: SealKey
  readonly #deps: RepositoryDeps
  readonly #settings: WriteSettings
  readonly #index: IndexStore
  readonly #opener: BlobOpener
  readonly #openEnds: (() => Promise<LockEnds>) | undefined
  readonly #writers = new Set<RepositoryWriter>()
  #engine: WriteEngine | undefined
  readonly #threads: SealThreads
  /** Of the last engine, while there is none. */
  #memory: WriteMemory | undefined
  #disposed = false

  constructor(id: string, { files, opened, threads, deps, settings }: Parts, options: RepositoryOptions) {
    const { master: key } = opened
    this.id = id
    this.url = files.backend.url
    this.#files = files
    this.#key = key
    this.#threads = threads
    this.#deps = deps
    this.#settings = settings
    const { lockEnds, cacheDirectory } = options
    if (lockEnds !== undefined && cacheDirectory !== undefined) this.#openEnds = () => lockEnds(join(cacheDirectory, id))
    const codec = zstdCodec(treeLevel(settings.compression), settings.codec)
    this.#opener = { key, codec, ciphers: ciphersFor(settings.codec) }
    this.#index = new IndexStore(files, deps.log, { cache: cacheOf(id, deps, options), ...options.indexSizes })
    this.snapshots = new SnapshotFiles(files, deps)
    this.keys = new KeyFiles(files, opened, deps)
    this.#reading = new ReadEngine({ backend: files.backend, threads, ...settings })
    this.#blobs = new BlobStore({
      backend: files.backend,
      index: this.#index,
      opener: this.#opener,
      pending: (pack, offset, length) => this.#engine?.pending(pack, offset, length),
      engine: this.#reading,
      cacheBytes: options.cacheBytes ?? 4 * MIB,
    })
  }

  get blobs(): BlobReader {
    return this.#blobs
  }

  get complete(): Complete {
    return this.#index.complete
  }

  async beginWrite(options: WriteLocking = {}): Promise<RepositoryWriter> {
    const meanwhile = (): Promise<unknown> => Promise.all([this.#index.refresh(options), options.meanwhile?.()])
    const lock = await this.#lock(options, false, meanwhile)
    let counted = false
    try {
      // Only now, under the lock, does what the index says stay true: no prune can run any more. What was loaded meanwhile is looked over by its list of files.
      const index = await this.#index.refresh(options)
      throwIfAborted(options)
      // Writers of a failed engine are about to end; what they left in the index is not in the repository.
      throwIfAborted({ signal: this.#engine?.failed })
      this.#index.writerBegins()
      counted = true
      const engine = this.#engine ?? this.#startEngine(index)
      const writer: SnapshotWriter = new SnapshotWriter({
        engine,
        lock,
        files: this.#files,
        log: this.#deps.log,
        completing: () => this.#index.completing(),
        onEnd: (sound) => this.#endWriter(writer, engine, lock, sound),
      })
      this.#writers.add(writer)
      return writer
    } catch (error) {
      if (counted) this.#index.writerEnds(false)
      await lock[Symbol.asyncDispose]()
      throw error
    }
  }

  refuseIfHeld(options: Abortable = {}): Promise<void> {
    return refuseConflicts(this.#files, this.#deps, { ...options, exclusive: false })
  }

  async beginRead(options: Locking = {}): Promise<RepositoryLease> {
    return await this.#lock(options)
  }

  async *check(options: CheckOptions = {}): AsyncGenerator<RepositoryProblem> {
    await using lock = await this.#lock(options)
    const { snapshots } = this
    yield* checkRepository({ files: this.#files, index: this.#index, blobs: this.#blobs, snapshots, opener: this.#opener }, options)
    throwIfAborted(lock)
  }

  async prune(options: PruneOptions = {}): Promise<PruneReport> {
    const { backend } = this.#files
    await using lock = options.dryRun === true ? await this.#lockForReading(options) : await this.#lock(options, true)
    const signal = anySignal(options.signal, lock?.signal)
    // Read anew under the lock: what other commands of this process hold of the index stays theirs, and they notice by themselves that files have gone.
    const index = new IndexStore(this.#files, this.#deps.log)
    const blobs = new BlobStore({
      backend,
      index,
      opener: this.#opener,
      pending: () => undefined,
      engine: this.#reading,
      cacheBytes: 0,
    })
    const { snapshots } = this
    const { packSize } = this.#settings
    const parts = { files: this.#files, index, blobs, snapshots, opener: this.#opener, random: this.#deps.random, packSize }
    return await pruneRepository({ ...parts, lock: options.dryRun === true ? undefined : lock }, { ...options, signal })
  }

  get renewLocks(): ((options?: RenewOptions) => Promise<RenewReport>) | undefined {
    const { locks } = this.#files.backend
    if (locks === undefined) return undefined
    return async (options = {}) => {
      await using lock = options.dryRun === true ? await this.#lockForReading(options) : await this.#lock(options)
      const signal = anySignal(options.signal, lock?.signal)
      const { snapshots } = this
      const { clock, log } = this.#deps
      const parts = { files: this.#files, locks, index: this.#index, blobs: this.#blobs, snapshots, clock, log }
      const report = await renewLocks({ ...parts, openEnds: this.#openEnds }, { ...options, signal })
      throwIfAborted({ signal })
      return report
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true
    for (const writer of this.#writers) await writer[Symbol.asyncDispose]()
    await this.#memory?.[Symbol.asyncDispose]()
    this.#memory = undefined
    await this.#reading[Symbol.asyncDispose]()
    await this.#threads[Symbol.asyncDispose]()
    await this.#index[Symbol.asyncDispose]()
  }

  /** None where no lock file can be made: nobody prunes what is on a read-only medium. */
  async #lockForReading(options: Locking): Promise<RepositoryLock | undefined> {
    try {
      return await this.#lock(options)
    } catch (error) {
      if (!isAgentError(error, 'CONFIG')) throw error
      this.#deps.log.info('reading without a lock', { repository: this.url, reason: error.message })
      return undefined
    }
  }

  #lock(options: Locking, exclusive = false, meanwhile?: () => Promise<unknown>): Promise<RepositoryLock> {
    if (this.#disposed) throw new AgentError('INTERNAL', `The repository ${this.url} is used after it was closed.`)
    return RepositoryLock.take(this.#files, this.#deps, {
      exclusive,
      signal: options.signal,
      waitMs: options.waitMs,
      recordLocks: options.recordLocks,
      meanwhile,
    })
  }

  #startEngine(index: Awaited<ReturnType<IndexStore['current']>>): WriteEngine {
    const kept = this.#memory?.pool.dead === true ? undefined : this.#memory
    const memory = kept ?? new WriteMemory(this.#files.backend, this.#threads, this.#settings)
    this.#memory = undefined
    this.#engine = new WriteEngine({
      memory,
      clock: this.#deps.clock,
      files: this.#files,
      index,
      key: this.#key,
      random: this.#deps.random,
      codec: this.#opener.codec,
      settings: this.#settings,
      mend: (error) => this.#index.mend(index, error),
      onIndexFile: (name, packs) => this.#index.note(index, name, packs),
    })
    return this.#engine
  }

  /** The last writer ends the engine. What an aborted writer left in open packs is dropped, so the index must be read anew. */
  async #endWriter(writer: RepositoryWriter, engine: WriteEngine, lock: RepositoryLock, sound: boolean): Promise<void> {
    this.#writers.delete(writer)
    const last = this.#writers.size === 0
    let whole = sound && !engine.failed.aborted
    if (last && this.#engine === engine) this.#engine = undefined
    try {
      if ((last || engine.failed.aborted) && (await engine.close(!lock.signal.aborted))) await this.#keep(engine.memory)
    } catch (error) {
      // The writer is ending without a commit and its own error is on its way to the caller; this one is only about what is left behind.
      this.#deps.log.warn('Packs of an aborted backup could not be indexed.', { repository: this.url, reason: toAgentError(error).message })
      whole = false
    }
    this.#index.writerEnds(whole)
  }

  /** An engine may have begun and ended meanwhile. */
  async #keep(memory: WriteMemory): Promise<void> {
    if (this.#memory === undefined && !this.#disposed) this.#memory = memory
    else await memory[Symbol.asyncDispose]()
  }
}

/** Its pages are in the byte order of nearly every machine; the others do without. */
function cacheOf(id: string, { clock, log, random }: RepositoryDeps, { cacheDirectory }: RepositoryOptions): IndexCache | undefined {
  if (cacheDirectory === undefined || endianness() !== 'LE') return undefined
  return new IndexCache({ directory: join(cacheDirectory, id), clock, log, random })
}

function settingsOf(options: RepositoryOptions): WriteSettings {
  const between = (name: string, value: number, low: number, high: number): number => {
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new AgentError('CONFIG', `The repository setting ${name} is ${value}; it must be a whole number from ${low} to ${high}.`)
    }
    return value
  }
  const { compression = 'auto' } = options
  if (typeof compression === 'number') between('compression', compression, -7, 19)
  if (compression === -1 || compression === 0)
    throw new AgentError('CONFIG', `The zstd level ${compression} means another level; choose 1 or more, or -2 or less.`)
  return Object.freeze({
    workers: between('workers', options.workers ?? Math.min(4, availableParallelism()), 1, 64),
    blockSize: between('blockSize', options.blockSize ?? MIB, 4096, 8 * MIB),
    compression,
    packSize: between('packSize', options.packSize ?? 16 * MIB, 4 * MIB, 128 * MIB),
    codec: options.codec ?? 'auto',
  })
}
