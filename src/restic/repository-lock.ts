import { type Abortable, AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import { goString, goTime } from './go-json.ts'
import type { RepositoryDeps } from './repository.ts'
import type { SealedFiles } from './sealed-files.ts'
import { isRecord } from './snapshot.ts'

/** restic's own times, ms. */
const STALE_AFTER = 30 * 60_000
const REFRESH_EVERY = 5 * 60_000
const LOOK_AGAIN_AFTER = 200
/** Without a refresh for so long the lock counts as lost, before anybody else may call it stale. */
const LOST_AFTER = 25 * 60_000
const RETRY_EVERY = 5_000
/** How often one who met another that came at the same moment tries again, after a pause by chance of at most so long, doubled each time, ms. */
const MEETINGS = 5
const LONGEST_PAUSE = 1_000

/** A lock file of anybody. */
export type LockInfo = {
  readonly name: string
  readonly time: string
  readonly exclusive: boolean
  readonly hostname: string
  readonly username: string
  readonly pid: number
}

/**
 * Told the names of all lock files of one operation: before another one is made, and after one was removed; none = it holds no lock (any
 * more). Durable when it resolves, so that what a killed process leaves can be removed by name, without the repository's password.
 */
export type RecordLockNames = (names: readonly string[]) => Promise<void>

/** How an operation locks the repository. `waitMs`: keep trying so long while it is locked against us, default 0. */
export type Locking = Abortable & { readonly waitMs?: number | undefined; readonly recordLocks?: RecordLockNames | undefined }

export type LockRequest = Locking & {
  readonly exclusive: boolean
  /** Begun, and not waited for, while the moment passes after which is looked again. The lock is not sure yet: what it finds out has to be made sure afterwards. */
  readonly meanwhile?: (() => Promise<unknown>) | undefined
}

/**
 * A lock of ours in the repository, refreshed every five minutes until disposed. `signal` aborts with CONFLICT when it is lost: its file
 * was removed (`restic unlock`), or it could not be refreshed in time. Disposal removes the file.
 */
export class RepositoryLock implements AsyncDisposable {
  readonly #files: SealedFiles
  readonly #deps: RepositoryDeps
  readonly #exclusive: boolean
  readonly #record: RecordLockNames
  readonly #lost = new AbortController()
  #name: string
  /** Every name under which a file of ours may be there: also one whose save or removal failed. */
  #names: readonly string[]
  #refreshedAt: number
  #timer: Disposable | undefined
  #refreshing: Promise<void> | undefined

  private constructor(files: SealedFiles, deps: RepositoryDeps, request: LockRequest, name: string) {
    this.#files = files
    this.#deps = deps
    this.#exclusive = request.exclusive
    this.#record = recorder(request)
    this.#name = name
    this.#names = [name]
    this.#refreshedAt = deps.clock.monotonicMs()
  }

  /**
   * Takes a lock as restic does: look for a conflicting lock, write ours, wait a moment, look again. The moment is for places where what was saved shows only after a while: where
   * it shows at once, of two who each save theirs before they look again the later one finds the other, however little time passes. Stale locks (30 minutes without a
   * refresh, or of a dead process of this host) are removed. Of two that come at the same moment both give way, and try again after pauses of different length, so that one
   * has it. CONFLICT naming the holder.
   */
  static async take(files: SealedFiles, deps: RepositoryDeps, request: LockRequest): Promise<RepositoryLock> {
    const deadline = deps.clock.monotonicMs() + (request.waitMs ?? 0)
    for (let meetings = 0; ; ) {
      try {
        const taken = await RepositoryLock.#takeOnce(files, deps, request)
        if (taken instanceof RepositoryLock) return taken
        if (++meetings > MEETINGS) throw taken.met
        const [chance = 0] = deps.random(1)
        await deps.clock.sleep(((LONGEST_PAUSE * 2 ** (meetings - 1)) / 255) * chance, request)
      } catch (error) {
        const left = deadline - deps.clock.monotonicMs()
        if (!isAgentError(error, 'CONFLICT') || left <= 0) throw error
        await deps.clock.sleep(Math.min(RETRY_EVERY, left), request)
      }
    }
  }

  /** `met`: of another that was not there when it looked first. */
  static async #takeOnce(
    files: SealedFiles,
    deps: RepositoryDeps,
    request: LockRequest,
  ): Promise<RepositoryLock | { readonly met: AgentError }> {
    await refuseConflicts(files, deps, request)
    const { name, bytes } = files.prepare(encodeLock(deps, request.exclusive))
    const lock = new RepositoryLock(files, deps, request, name)
    await recorder(request)([name])
    try {
      await files.backend.save({ kind: 'lock', name }, bytes, request)
      request.meanwhile?.().catch((error: unknown) => {
        deps.log.debug('What was begun before the lock was sure failed; it is done again.', { reason: String(error) })
      })
      if ((await files.backend.listsAtOnce?.()) !== true) await deps.clock.sleep(LOOK_AGAIN_AFTER, request)
      const met = await conflictWith(files, deps, request, name)
      if (met !== undefined) {
        await lock.#removeAllBut(undefined)
        return { met }
      }
      if ((await files.backend.stat({ kind: 'lock', name }, request)) === undefined) throw lostError(files)
    } catch (error) {
      await lock.#removeAllBut(undefined)
      throw error
    }
    lock.#timer = deps.clock.every(
      REFRESH_EVERY,
      () => lock.refresh(),
      (error) => lock.#refreshFailed(error),
    )
    return lock
  }

  get signal(): AbortSignal {
    return this.#lost.signal
  }

  /** Renews the lock: new file first, then the old one away. Called by the timer; a lock whose file is gone is lost. */
  async refresh(): Promise<void> {
    if (this.#lost.signal.aborted || this.#timer === undefined) return
    this.#refreshing = this.#refresh()
    try {
      await this.#refreshing
    } finally {
      this.#refreshing = undefined
    }
  }

  /** Throws when the lock is lost. Asked before anything irrevocable. */
  async verify(options?: Abortable): Promise<void> {
    throwIfAborted({ signal: this.#lost.signal })
    await this.#refreshing
    if ((await this.#files.backend.stat({ kind: 'lock', name: this.#name }, options)) === undefined) this.#lose()
    throwIfAborted({ signal: this.#lost.signal })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    await this.#refreshing?.catch((error: unknown) => this.#deps.log.debug('A last lock refresh failed.', { reason: String(error) }))
    await this.#removeAllBut(undefined)
  }

  async #refresh(): Promise<void> {
    if ((await this.#files.backend.stat({ kind: 'lock', name: this.#name })) === undefined) {
      this.#lose()
      return
    }
    const { name, bytes } = this.#files.prepare(encodeLock(this.#deps, this.#exclusive))
    this.#names = [...this.#names, name]
    await this.#record(this.#names)
    await this.#files.backend.save({ kind: 'lock', name }, bytes)
    this.#name = name
    this.#refreshedAt = this.#deps.clock.monotonicMs()
    await this.#removeAllBut(name)
  }

  async #removeAllBut(kept: string | undefined): Promise<void> {
    for (const name of this.#names) if (name !== kept) await this.#files.backend.remove({ kind: 'lock', name })
    this.#names = kept === undefined ? [] : [kept]
    await this.#record(this.#names)
  }

  #refreshFailed(error: unknown): void {
    this.#deps.log.warn('The lock of the repository could not be refreshed.', {
      repository: this.#files.backend.url,
      reason: String(error),
    })
    if (this.#deps.clock.monotonicMs() - this.#refreshedAt >= LOST_AFTER) this.#lose(error)
  }

  #lose(cause?: unknown): void {
    if (!this.#lost.signal.aborted) this.#lost.abort(lostError(this.#files, cause))
  }
}

const lostError = (files: SealedFiles, cause?: unknown): AgentError =>
  new AgentError('CONFLICT', `The lock on the repository ${files.backend.url} was lost.`, {
    subject: files.backend.url,
    next: 'Find out who removed it ("restic unlock" while a backup runs does), then run the command again.',
    cause,
  })

/** Where nobody keeps the names, a lock that outlives its process goes stale, as restic's own. */
const recorder = (request: LockRequest): RecordLockNames => request.recordLocks ?? (async () => undefined)

function encodeLock(deps: RepositoryDeps, exclusive: boolean): Buffer {
  const time = goTime(deps.clock.now().toISOString())
  return Buffer.from(
    `{"time":"${time}","exclusive":${exclusive},"hostname":${goString(deps.hostname)},"username":${goString(deps.username)},"pid":${deps.pid}}`,
    'utf8',
  )
}

async function conflictWith(files: SealedFiles, deps: RepositoryDeps, request: LockRequest, own: string): Promise<AgentError | undefined> {
  try {
    await refuseConflicts(files, deps, request, own)
    return undefined
  } catch (error) {
    if (!isAgentError(error, 'CONFLICT')) throw error
    return error
  }
}

/** Removes stale locks; CONFLICT when a living one stands against ours. */
export async function refuseConflicts(files: SealedFiles, deps: RepositoryDeps, request: LockRequest, own?: string): Promise<void> {
  for await (const { name, size } of files.backend.list('lock', request)) {
    // Some backends leave empty files behind when an upload broke off; restic ignores them too.
    if (name === own || size === 0) continue
    const lock = await loadLock(files, name, request)
    if (lock === undefined) continue
    if (isStale(lock, deps)) {
      deps.log.warn('A stale lock of the repository was removed.', { repository: files.backend.url, ...lock })
      await files.backend.remove({ kind: 'lock', name }, request)
    } else if (request.exclusive || lock.exclusive) {
      throw new AgentError(
        'CONFLICT',
        `The repository ${files.backend.url} is locked ${lock.exclusive ? 'exclusively ' : ''}by process ${lock.pid} of ${lock.username} on ${lock.hostname} since ${lock.time}.`,
        { subject: files.backend.url, next: 'Wait for that process to end; if it is gone, remove its lock with "restic unlock".' },
      )
    }
  }
}

async function loadLock(files: SealedFiles, name: string, options?: Abortable): Promise<LockInfo | undefined> {
  let json: unknown
  try {
    json = await files.loadJson({ kind: 'lock', name }, options)
  } catch (error) {
    // Released between listing and reading.
    if (isAgentError(error, 'NOT_FOUND')) return undefined
    throw error
  }
  if (!isRecord(json) || typeof json['time'] !== 'string' || Number.isNaN(Date.parse(json['time']))) {
    throw new AgentError('INTEGRITY', `The lock file ${name} of ${files.backend.url} cannot be read.`, {
      subject: name,
      next: 'Remove it with "restic unlock --remove-all" once no other program uses the repository.',
    })
  }
  const { hostname, username, pid } = json
  return {
    name,
    time: json['time'],
    exclusive: json['exclusive'] === true,
    hostname: typeof hostname === 'string' ? hostname : '',
    username: typeof username === 'string' ? username : '',
    pid: typeof pid === 'number' ? pid : 0,
  }
}

function isStale(lock: LockInfo, deps: RepositoryDeps): boolean {
  if (deps.clock.now().getTime() - Date.parse(lock.time) > STALE_AFTER) return true
  return lock.hostname === deps.hostname && lock.pid > 0 && !processExists(lock.pid)
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
