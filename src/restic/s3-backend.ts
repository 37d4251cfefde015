import { createHash, hash } from 'node:crypto'
import { type Abortable, AgentError, effect, isAgentError, MIB, type RunId, throwIfAborted, unlessAborted } from '../core/index.ts'
import {
  CONFIG_FILE,
  type FileKind,
  type FileLocks,
  type FileRef,
  type LoadOptions,
  type RepositoryPlace,
  type SaveOptions,
} from './backend.ts'
import { isHexId } from './ids.ts'
import { FOLDERS, layoutPath } from './layout.ts'
import { Bucket, type LockMode, type Retention, type UnfinishedUpload } from './s3/bucket.ts'
import { S3Client, type S3ClientOptions } from './s3/s3-client.ts'
import { Tries, type TriesDeps } from './tries.ts'

/** Packs on their way at once: restic's own number of connections. */
const SAVES_AT_ONCE = 5
/** Larger files go in parts. S3 takes 5 GiB in one, but a cut connection then costs all of it. */
const PARTS_FROM = 64 * MIB
const PART = 16 * MIB
/** No upload of ours lasts so long: what is older is a dead process's. ms */
const ABANDONED_AFTER = 24 * 60 * 60_000
/** How often a server is told to make a lock longer that says it did and has not. */
const LENGTHENED_AT_MOST = 3
const DAY = 24 * 60 * 60_000

export type ObjectLock = {
  /** governance: who has the special right may remove it all the same; compliance: nobody may. */
  readonly mode: 'governance' | 'compliance'
  /** From when a file is saved. */
  readonly days: number
}

export type S3BackendDeps = TriesDeps &
  S3ClientOptions & {
    /** As restic writes it, `s3:https://host/bucket/prefix`. */
    readonly url: string
    /** Without slashes at its ends; empty = the bucket itself. */
    readonly prefix: string
    readonly storageClass?: string | undefined
    readonly objectLock?: ObjectLock | undefined
    /** Sizes from which, and in which, files go in parts, bytes; and when an upload in parts is nobody's any more, ms. For tests. */
    readonly parts?: { readonly from: number; readonly each: number; readonly abandonedAfterMs?: number | undefined } | undefined
  }

/**
 * A repository in a bucket, laid out as restic does it there. An object is there whole or not at all; the server compares its SHA-256 with what
 * it was sent, and its length is asked for afterwards. What passes by itself is done again. With `objectLock` all but locks is kept
 * by the server for the given days: `remove` refuses it before it is asked to, with CONFLICT. Opening connects to nothing.
 */
export function s3Backend(deps: S3BackendDeps): RepositoryPlace {
  return new S3Backend(deps)
}

class S3Backend implements RepositoryPlace {
  readonly url: string
  readonly savesAtOnce = SAVES_AT_ONCE
  readonly #deps: S3BackendDeps
  readonly #before: string
  readonly #bucket: Bucket
  readonly #tries: Tries
  #opened: Promise<void> | undefined
  #disposed = false

  constructor(deps: S3BackendDeps) {
    this.url = deps.url
    this.#deps = deps
    this.#before = deps.prefix === '' ? '' : `${deps.prefix}/`
    this.#bucket = new Bucket(new S3Client(deps))
    this.#tries = new Tries(deps.url, deps)
  }

  async load(file: FileRef, options: LoadOptions = {}): Promise<Buffer> {
    const key = this.#key(file)
    const { range } = options
    // No range of bytes is empty in HTTP.
    const empty = range?.length === 0
    const bytes = await this.#do(file.kind, options, async () => {
      if (!empty) return this.#bucket.get(key, options)
      const stored = await this.#bucket.head(key, options)
      return stored === undefined ? undefined : Buffer.alloc(0)
    })
    if (bytes === undefined) throw new AgentError('NOT_FOUND', `There is no ${key} in ${this.#bucket.where}.`, { subject: key })
    return bytes
  }

  async save(file: FileRef, data: Uint8Array, options: SaveOptions = {}): Promise<void> {
    throwIfAborted(options)
    const key = this.#key(file)
    const { from, each } = this.#deps.parts ?? { from: PARTS_FROM, each: PART }
    // The name of these is their digest, so nothing that changed on the way from there to here is stored either.
    const named = file.kind === 'data' || file.kind === 'index' || file.kind === 'snapshot'
    const sha256 = named ? file.name : hash('sha256', data)
    const retain = this.#retain(file.kind)
    const inParts = data.length > from
    const md5 = retain === undefined || inParts ? undefined : await this.#md5(data)
    const put = { sha256, md5, storageClass: this.#storageClass(file.kind), signal: options.signal }
    await effect({ kind: 'upload', what: `save ${file.kind}`, on: `${this.url} ${key}` }, () =>
      this.#do(file.kind, options, async () => {
        const retained = { ...put, retain: this.#retain(file.kind) }
        try {
          await (inParts ? this.#bucket.putInParts(key, data, each, retained) : this.#bucket.put(key, data, retained))
        } catch (error) {
          if (named && hash('sha256', data) !== file.name) throw changedInMemory(file)
          throw error
        }
      }),
    )
  }

  async *list(kind: FileKind, options: Abortable = {}): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    throwIfAborted(options)
    if (kind === 'config') {
      const found = await this.stat(CONFIG_FILE, options)
      if (found !== undefined) yield { name: 'config', size: found.size }
      return
    }
    const folder = `${this.#before}${FOLDERS[kind]}/`
    let token: string | undefined
    do {
      const page: Awaited<ReturnType<Bucket['page']>> = await this.#do(kind, options, () => this.#bucket.page(folder, token, options))
      for (const { key, size } of page.objects) {
        const name = key.slice(key.lastIndexOf('/') + 1)
        if (isHexId(name) && key === this.#key({ kind, name })) yield { name, size }
      }
      token = page.next
    } while (token !== undefined)
  }

  async stat(file: FileRef, options: Abortable = {}): Promise<{ readonly size: number } | undefined> {
    throwIfAborted(options)
    const key = this.#key(file)
    const found = await this.#do(file.kind, options, () => this.#bucket.head(key, options))
    return found === undefined ? undefined : { size: found.size }
  }

  async remove(file: FileRef, options: Abortable = {}): Promise<void> {
    throwIfAborted(options)
    const key = this.#key(file)
    const until = file.kind === 'lock' ? undefined : await this.lockedUntil(file, options)
    if (until !== undefined) {
      throw new AgentError('CONFLICT', `${key} in ${this.#bucket.where} is locked until ${until.toISOString()}.`, {
        subject: key,
        next: 'Remove it after that.',
      })
    }
    await this.#remove(file, options)
  }

  async #remove(file: FileRef, options: Abortable): Promise<void> {
    const key = this.#key(file)
    await effect({ kind: 'upload', what: `remove ${file.kind}`, on: `${this.url} ${key}` }, () =>
      this.#do(file.kind, options, () => this.#bucket.remove(key, options)),
    )
  }

  async lockedUntil(file: FileRef, options: Abortable = {}): Promise<Date | undefined> {
    const key = this.#key(file)
    const until = await this.#do(file.kind, options, async () => {
      const stored = await this.#bucket.head(key, options)
      if (stored === undefined) return undefined
      return stored.lockedUntil ?? (this.#deps.objectLock === undefined ? undefined : await this.#retentionIfTold(key, options))
    })
    return until === undefined || until <= this.#deps.clock.now().getTime() ? undefined : new Date(until)
  }

  get locks(): FileLocks | undefined {
    const { objectLock } = this.#deps
    if (objectLock === undefined) return undefined
    return {
      forMs: objectLock.days * DAY,
      end: async (file, options = {}) => {
        const kept = await this.#kept(file, options)
        return kept === undefined ? undefined : new Date(kept.until)
      },
      keep: (file, least, to, options = {}) => this.#keep(file, least, to, objectLock, options),
      hide: (file, options = {}) => this.#remove(file, options),
    }
  }

  async #keep(
    file: FileRef,
    least: Date,
    to: Date,
    objectLock: ObjectLock,
    options: Abortable,
  ): Promise<{ readonly until: Date; readonly lengthened: boolean }> {
    const key = this.#key(file)
    // Servers keep whole seconds.
    const until = Math.ceil(Math.max(least.getTime(), to.getTime()) / 1000) * 1000
    let kept = await this.#kept(file, options)
    let [lengthened, refused] = [false, undefined as AgentError | undefined]
    for (let tries = 1; (kept?.until ?? 0) < least.getTime(); tries++) {
      if (tries > LENGTHENED_AT_MOST || refused !== undefined) throw this.#notLengthened(key, refused)
      const retention = { mode: kept?.mode ?? modeOf(objectLock), until }
      try {
        await effect({ kind: 'upload', what: `lengthen the lock of ${file.kind}`, on: `${this.url} ${key}` }, () =>
          this.#do(file.kind, options, () => this.#bucket.retain(key, retention, options)),
        )
        lengthened = true
      } catch (error) {
        // What somebody else has made longer than this meanwhile is refused as well.
        if (!isAgentError(error, 'CONFIG', 'CONFLICT')) throw error
        refused = error
      }
      // Servers have been seen that compare no digest of this, and that let one of two who ask at the same time undo what the other was told is done.
      kept = await this.#kept(file, options)
    }
    if (lengthened && kept?.until !== until) {
      const told = {
        repository: this.url,
        file: key,
        asked: new Date(until).toISOString(),
        until: new Date(kept?.until ?? 0).toISOString(),
      }
      this.#deps.log.warn('a file is kept until another moment than was asked for', told)
    }
    return { until: new Date(kept?.until ?? 0), lengthened }
  }

  #notLengthened(key: string, refused: AgentError | undefined): AgentError {
    const why = refused === undefined ? '.' : `: ${refused.message}`
    return new AgentError('CONFIG', `The Object Lock of ${key} in ${this.#bucket.where} could not be made longer${why}`, {
      subject: this.url,
      next: 'Give the key pair the right s3:PutObjectRetention; until then restore points lose their protection before their time.',
      retry: 'never',
      cause: refused,
    })
  }

  async #kept(file: FileRef, options: Abortable): Promise<Retention | undefined> {
    const key = this.#key(file)
    const kept = await this.#do(file.kind, options, async () => {
      const stored = await this.#bucket.head(key, options)
      if (stored === undefined) return 'missing'
      const { lockedUntil: until, lockMode: mode } = stored
      return until === undefined || mode === undefined ? await this.#bucket.retention(key, options) : { mode, until }
    })
    if (kept === 'missing') throw new AgentError('NOT_FOUND', `There is no ${key} in ${this.#bucket.where}.`, { subject: key })
    return kept
  }

  /** A key pair that may not ask is told nothing; what it may not remove the server refuses then. */
  async #retentionIfTold(key: string, options: Abortable): Promise<number | undefined> {
    try {
      const kept = await this.#bucket.retention(key, options)
      return kept === undefined || kept === 'missing' ? undefined : kept.until
    } catch (error) {
      if (!isAgentError(error, 'CONFIG')) throw error
      return undefined
    }
  }

  /**
   * Objects are whole or not there, so nothing of a run is half saved but uploads in parts, which do not say whose they are: those that are
   * a day old are nobody's any more.
   */
  async removeHalfSaved(_run: RunId): Promise<readonly string[]> {
    const data = `${this.#before}${FOLDERS.data}/`
    const uploads = await this.#do('lock', {}, () => this.#unfinishedUploads(data))
    const abandoned = uploads.filter(
      ({ begunAt }) => this.#deps.clock.now().getTime() - begunAt > (this.#deps.parts?.abandonedAfterMs ?? ABANDONED_AFTER),
    )
    for (const upload of abandoned) {
      await effect({ kind: 'upload', what: 'give up upload', on: `${this.url} ${upload.key}` }, () =>
        this.#do('lock', {}, () => this.#bucket.abortUpload(upload)),
      )
    }
    return abandoned.map(({ key }) => `${this.url} ${key}`)
  }

  /** A key pair or a server that cannot list them leaves them to a rule of the bucket. */
  async #unfinishedUploads(prefix: string): Promise<readonly UnfinishedUpload[]> {
    try {
      return await this.#bucket.unfinishedUploads(prefix)
    } catch (error) {
      if (!isAgentError(error, 'CONFIG')) throw error
      this.#deps.log.info('unfinished uploads cannot be listed', { repository: this.url, reason: error.message })
      return []
    }
  }

  async removeUnfinished(key: string): Promise<void> {
    if ((await this.stat(CONFIG_FILE)) !== undefined) return
    await this.remove({ kind: 'key', name: key })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    await this.#bucket[Symbol.asyncDispose]()
  }

  async #do<T>(kind: FileKind, options: SaveOptions, work: () => Promise<T>): Promise<T> {
    return this.#tries.run(
      async () => {
        if (this.#disposed) throw new AgentError('INTERNAL', `${this.url} is used after it was closed.`)
        this.#opened ??= this.#open()
        try {
          await unlessAborted(this.#opened, options.signal)
        } catch (error) {
          this.#opened = undefined
          throw error
        }
        return work()
      },
      kind,
      options,
    )
  }

  /** What is wrong with bucket, key pair, region or clock is told before anything else: a HEAD says nothing of it, and a PUT may be cut instead. */
  async #open(): Promise<void> {
    await this.#bucket.page(`${this.#before}config`, undefined)
    if (this.#deps.objectLock !== undefined && !(await this.#bucket.hasObjectLock())) {
      throw new AgentError('CONFIG', `The bucket ${this.#bucket.where} has no Object Lock.`, {
        subject: this.url,
        next: 'Make a bucket that has it (it is chosen when a bucket is made), or take objectLock out of the repository.',
      })
    }
  }

  #retain(kind: FileKind): { readonly mode: LockMode; readonly until: Date } | undefined {
    const { objectLock, clock } = this.#deps
    if (objectLock === undefined || kind === 'lock') return undefined
    return {
      mode: modeOf(objectLock),
      until: new Date(clock.now().getTime() + objectLock.days * DAY),
    }
  }

  /** Cold classes are for packs alone, as restic does it: the rest is read again and again. */
  #storageClass(kind: FileKind): string | undefined {
    return kind === 'data' ? this.#deps.storageClass : undefined
  }

  /** In pieces, so that nobody waits long for the thread. */
  async #md5(data: Uint8Array): Promise<string> {
    const digest = createHash('md5')
    for (let at = 0; at < data.length; at += 2 * MIB) {
      digest.update(data.subarray(at, at + 2 * MIB))
      await this.#deps.clock.sleep(0)
    }
    return digest.digest('base64')
  }

  #key(file: FileRef): string {
    return `${this.#before}${layoutPath(file)}`
  }
}

const modeOf = ({ mode }: ObjectLock): LockMode => (mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE')

/** Whatever did it, no other try can help. */
const changedInMemory = (file: FileRef): AgentError =>
  new AgentError('INTEGRITY', `The ${file.kind} file ${file.name} does not hold what its name says.`, {
    subject: file.name,
    next: 'Check the memory of this machine, then run the command again.',
  })
