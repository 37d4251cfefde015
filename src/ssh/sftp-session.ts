import type { Socket } from 'node:net'
import type { Client, SFTPWrapper } from 'ssh2'
import { type Abortable, AgentError, KIB, type Range, SilenceWatch, throwIfAborted, unlessAborted } from '../core/index.ts'
import { dialSsh } from './dial.ts'
import { isEnd, isNoSuchFile, isPlainFailure, serverError, sftpError } from './sftp-error.ts'
import { connectionLost } from './ssh-error.ts'
import type { SshDeps, SshHost } from './ssh-host.ts'

/** What every server takes in one request (draft-ietf-secsh-filexfer-02, section 3: packets of 34000 bytes). Bytes */
const PIECE = 32 * KIB
/** Requests of one transfer under way: 2 MiB, which keeps a line of 300 MB/s or of 100 ms and 20 MB/s busy. */
const LANES = 64
/** A server that was asked something may be silent for so long; a full disk array that syncs is slow. ms */
const SILENCE_MS = 90_000
/** How long it may take to say goodbye, ms. */
const CLOSE_MS = 2_000
/** No folder of a repository holds more names, and no file more bytes. */
const MOST_NAMES = 4_000_000
const MOST_BYTES = 1024 * 1024 * KIB

export type SftpName = { readonly name: string; readonly size: number; readonly directory: boolean }

/**
 * The files of a server over SFTP version 3 (docs/formats/sftp.md), on an SSH connection of its own. Calls may run concurrently. Errors of all:
 * UNAVAILABLE (connection, server), CONFIG (no access), CANCELED; `lost` aborts when the connection is gone, and everything under way fails with it.
 * A cancelled transfer returns when the server has answered what it was asked: no byte reaches the caller's memory after that.
 */
export class SftpSession implements AsyncDisposable {
  readonly #host: SshHost
  readonly #deps: SshDeps
  readonly #client: Client
  readonly #socket: Socket
  readonly #sftp: SFTPWrapper
  readonly #lost = new AbortController()
  readonly #watch: SilenceWatch
  #asked = 0
  /** Unknown until a server was asked once whether a folder can be synchronised. */
  #syncsFolders: boolean | undefined

  private constructor(host: SshHost, deps: SshDeps, { client, socket }: { client: Client; socket: Socket }, sftp: SFTPWrapper) {
    this.#host = host
    this.#deps = deps
    this.#client = client
    this.#socket = socket
    this.#sftp = sftp
    const gone = (): void => this.#end(connectionLost(host.name))
    client.on('error', (error) => this.#end(serverError(host.name, error)))
    client.on('close', gone)
    sftp.on('error', (error: unknown) => this.#end(sftpError(host.name, 'its files', error)))
    sftp.on('close', gone)
    this.#watch = new SilenceWatch(
      deps.clock,
      (silentMs) => {
        if (this.#asked === 0 || silentMs < SILENCE_MS) return
        this.#end(
          new AgentError('UNAVAILABLE', `${host.name} has not answered over SFTP for ${SILENCE_MS / 1000} s.`, { subject: host.name }),
        )
      },
      (error) => this.#end(sftpError(host.name, 'its files', error)),
    )
  }

  /** Logs in and starts SFTP. Errors as `dialSsh`; CONFIG when the server has no SFTP. */
  static async open(host: SshHost, deps: SshDeps, options?: Abortable): Promise<SftpSession> {
    const dialed = await dialSsh(host, options).catch((error: unknown) => {
      throw serverError(host.name, error)
    })
    const { promise, resolve, reject } = Promise.withResolvers<SFTPWrapper>()
    const lost = (): void => reject(connectionLost(host.name))
    // Later errors of the connection go to the session's own listeners.
    dialed.client.on('error', (error) => reject(serverError(host.name, error))).on('close', lost)
    const done = new AbortController()
    const late = deps.clock.sleep(SILENCE_MS, { signal: done.signal }).then(lost)
    late.catch(() => undefined) // cut short when the session is open
    try {
      dialed.client.sftp((error, sftp) => {
        if (error === undefined) resolve(sftp)
        else reject(noSftp(host, error))
      })
      return new SftpSession(host, deps, dialed, await unlessAborted(promise, options?.signal))
    } catch (error) {
      dialed.socket.destroy()
      throwIfAborted(options)
      throw error
    } finally {
      done.abort()
    }
  }

  /** Aborted, with the reason, once the connection is gone. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Whether a rename replaces what has the name, atomically. */
  get renamesOver(): boolean {
    return this.#offers('posix-rename@openssh.com')
  }

  /** Whether a file can be made durable before it gets its name. */
  get syncs(): boolean {
    return this.#offers('fsync@openssh.com')
  }

  /** Undefined when nothing has this name. */
  async stat(path: string, options?: Abortable): Promise<{ readonly size: number; readonly directory: boolean } | undefined> {
    try {
      const found = await this.#ask<{ size: number; isDirectory(): boolean }>(path, (done) => this.#sftp.stat(path, done), options)
      return { size: found.size, directory: found.isDirectory() }
    } catch (error) {
      if (isNoSuchFile(error)) return undefined
      throw error
    }
  }

  /**
   * The whole file, or exactly `range` of it; into `into` where that is large enough. NOT_FOUND; INTEGRITY when it ends before the range does.
   */
  async read(
    path: string,
    options: Abortable & {
      readonly range?: { readonly offset: number; readonly length: number } | undefined
      readonly into?: Buffer | undefined
    } = {},
  ): Promise<Buffer> {
    const handle = await this.#open(path, (done) => this.#sftp.open(path, 'r', done), options)
    try {
      const range = options.range ?? { offset: 0, length: await this.#sizeOf(path, handle, options) }
      const bytes = room(path, range.length, options.into)
      await inPieces(range.length, options, async (at, length) => {
        for (let done = 0; done < length; ) {
          const got = await this.#readOnce(path, handle, bytes, at + done, length - done, range.offset + at + done)
          if (got === 0) {
            throw new AgentError(
              'INTEGRITY',
              `${path} on ${this.#host.name} ends before byte ${range.offset + range.length}; it was to be read so far.`,
              { subject: path },
            )
          }
          done += got
        }
      })
      return bytes
    } finally {
      this.#forgetHandle(path, handle)
    }
  }

  /** Writes a new file, durable where the server can (`syncs`). CAPACITY when its disk is full; UNAVAILABLE also where there is one. */
  async write(path: string, data: Uint8Array, permissions: number, options: Abortable = {}): Promise<void> {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    const handle = await this.#open(path, (done) => this.#sftp.open(path, 'wx', permissions, done), options)
    try {
      try {
        await inPieces(bytes.length, options, (at, length) =>
          this.#ask<void>(path, (done) => this.#sftp.write(handle, bytes, at, length, at, done)),
        )
        if (this.syncs) await this.#ask<void>(path, (done) => this.#sftp.ext_openssh_fsync(handle, done), options)
      } catch (error) {
        throw await this.#orFull(error, path, bytes.length)
      }
    } catch (error) {
      this.#forgetHandle(path, handle)
      throw error
    }
    // Some file systems say only here that the space is gone.
    await this.#ask<void>(path, (done) => this.#sftp.close(handle, done)).catch(async (error: unknown) => {
      throw await this.#orFull(error, path, bytes.length)
    })
  }

  /** Gives a file another name. Where one has it: replaced when `renamesOver`, else CONFLICT. NOT_FOUND. */
  async rename(from: string, to: string, options?: Abortable): Promise<void> {
    if (this.renamesOver) return this.#ask<void>(to, (done) => this.#sftp.ext_openssh_rename(from, to, done), options)
    try {
      await this.#ask<void>(to, (done) => this.#sftp.rename(from, to, done), options)
    } catch (error) {
      // Version 3 has no word for "there is one already".
      if (!isPlainFailure(error) || (await this.stat(to, options)) === undefined) throw error
      throw new AgentError('CONFLICT', `${to} exists already on ${this.#host.name}.`, { subject: to, cause: error, retry: 'never' })
    }
  }

  /** Removes a file; one that is gone already is success. */
  async remove(path: string, options?: Abortable): Promise<void> {
    await this.#ask<void>(path, (done) => this.#sftp.unlink(path, done), options).catch(missingIsFine)
  }

  /** Removes an empty directory: false when it is not empty; one that is gone already is success. */
  async removeDirectory(path: string, options?: Abortable): Promise<boolean> {
    try {
      await this.#ask<void>(path, (done) => this.#sftp.rmdir(path, done), options).catch(missingIsFine)
      return true
    } catch (error) {
      if (!isPlainFailure(error)) throw error
      return false
    }
  }

  /** Makes a directory and those above it where they are missing, private to the user. */
  async ensureDirectory(path: string, options?: Abortable): Promise<void> {
    const found = await this.stat(path, options)
    if (found?.directory === true) return
    if (found !== undefined) throw new AgentError('CONFIG', `${path} on ${this.#host.name} is not a directory.`, { subject: path })
    const above = parentOf(path)
    if (above !== undefined) await this.ensureDirectory(above, options)
    try {
      await this.#ask<void>(path, (done) => this.#sftp.mkdir(path, { mode: 0o700 }, done), options)
    } catch (error) {
      // Somebody was faster, which version 3 calls a failure like any other.
      if (!isPlainFailure(error) || (await this.stat(path, options))?.directory !== true) throw error
    }
  }

  /** What is in a directory, without `.` and `..`; nothing when there is none. */
  async list(path: string, options: Abortable = {}): Promise<readonly SftpName[]> {
    let handle: Buffer
    try {
      handle = await this.#open(path, (done) => this.#sftp.opendir(path, done), options)
    } catch (error) {
      if (isNoSuchFile(error)) return []
      throw error
    }
    try {
      const names: SftpName[] = []
      for (;;) {
        throwIfAborted(options)
        const some = await this.#names(path, handle)
        if (some.length === 0) return names
        for (const { filename, attrs } of some) {
          if (filename !== '.' && filename !== '..') names.push({ name: filename, size: attrs.size, directory: attrs.isDirectory() })
        }
        if (names.length > MOST_NAMES)
          throw new AgentError('INTEGRITY', `${path} on ${this.#host.name} has too many names.`, { subject: path })
      }
    } finally {
      this.#forgetHandle(path, handle)
    }
  }

  /** Makes names created or removed in a directory durable, where the server can: OpenSSH's opens a directory like a file. */
  async syncDirectory(path: string, options?: Abortable): Promise<void> {
    if (!this.syncs || this.#syncsFolders === false) return
    try {
      const handle = await this.#open(path, (done) => this.#sftp.open(path, 'r', done), options)
      try {
        await this.#ask<void>(path, (done) => this.#sftp.ext_openssh_fsync(handle, done), options)
        this.#syncsFolders = true
      } finally {
        this.#forgetHandle(path, handle)
      }
    } catch (error) {
      throwIfAborted(options)
      if (this.lost.aborted || this.#syncsFolders === true || isNoSuchFile(error)) throw error
      this.#syncsFolders = false
      this.#deps.log.debug('the server synchronises no directories', { host: this.#host.name })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.lost.aborted) return
    const closed = new Promise<void>((resolve) => this.lost.addEventListener('abort', () => resolve(), { once: true }))
    this.#client.end()
    const done = new AbortController()
    const patience = this.#deps.clock.sleep(CLOSE_MS, { signal: done.signal })
    await Promise.race([closed, patience.catch(() => undefined)]) // ended when the connection has closed
    done.abort()
    this.#end(connectionLost(this.#host.name))
  }

  /** What the server said at the beginning it can do besides; the library keeps it and shows it nowhere. */
  #offers(extension: string, version = '1'): boolean {
    const extensions: unknown = Reflect.get(this.#sftp, '_extensions')
    return typeof extensions === 'object' && extensions !== null && Reflect.get(extensions, extension) === version
  }

  /** A handle that comes when its caller is gone is closed. */
  async #open(path: string, request: Request, options?: Abortable): Promise<Buffer> {
    throwIfAborted(options)
    const opening = this.#ask<Buffer>(path, request)
    try {
      return await unlessAborted(opening, options?.signal)
    } catch (error) {
      if (options?.signal?.aborted === true) void opening.then((handle) => this.#forgetHandle(path, handle)).catch(() => undefined) // not opened
      throw error
    }
  }

  async #sizeOf(path: string, handle: Buffer, options: Abortable): Promise<number> {
    return (await this.#ask<{ size: number }>(path, (done) => this.#sftp.fstat(handle, done), options)).size
  }

  /** 0 = the end of the file. */
  #readOnce(path: string, handle: Buffer, into: Buffer, at: number, length: number, offset: number): Promise<number> {
    return this.#ask<number>(path, (done) => this.#sftp.read(handle, into, at, length, offset, done))
  }

  async #names(path: string, handle: Buffer): Promise<readonly Listed[]> {
    try {
      return await this.#ask<readonly Listed[]>(path, (done) => this.#sftp.readdir(handle, done))
    } catch (error) {
      if (isEnd(error)) return []
      throw error
    }
  }

  /** A failure of a write, which version 3 does not explain: CAPACITY when the server has no room left. */
  async #orFull(error: unknown, path: string, wanted: number): Promise<unknown> {
    if (!isPlainFailure(error) || !this.#offers('statvfs@openssh.com', '2')) return error
    try {
      const space = await this.#ask<{ f_frsize: number | bigint; f_bavail: number | bigint }>(path, (done) =>
        this.#sftp.ext_openssh_statvfs(parentOf(path) ?? '.', done),
      )
      if (Number(space.f_frsize) * Number(space.f_bavail) >= wanted) return error
    } catch (problem) {
      this.#deps.log.debug('free space of the server is not known', { host: this.#host.name, error: String(problem) })
      return error
    }
    return new AgentError('CAPACITY', `No space is left on ${this.#host.name} to write ${path}.`, { subject: path, cause: error })
  }

  /** Closes a handle nobody waits for. */
  #forgetHandle(path: string, handle: Buffer): void {
    if (this.lost.aborted) return
    this.#ask<void>(path, (done) => this.#sftp.close(handle, done)).catch((error: unknown) =>
      this.#deps.log.debug('a file handle could not be closed', { path, error: String(error) }),
    )
  }

  /** One request and its answer. The library forgets requests that it gets after the connection has ended: those end with it here. */
  async #ask<T>(path: string, request: Request, options?: Abortable): Promise<T> {
    throwIfAborted(options)
    throwIfAborted({ signal: this.lost })
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    if (this.#asked++ === 0) this.#watch.heard()
    const gone = (): void => reject(this.lost.reason)
    this.lost.addEventListener('abort', gone, { once: true })
    try {
      request((error, result) => {
        this.#watch.heard()
        if (error === undefined || error === null) resolve(result)
        else reject(sftpError(this.#host.name, path, error))
      })
      // Asserted: the caller names what the library gives to this callback.
      return (await unlessAborted(promise, options?.signal)) as T
    } finally {
      this.#asked--
      this.lost.removeEventListener('abort', gone)
    }
  }

  #end(reason: AgentError): void {
    if (this.lost.aborted) return
    this.#watch[Symbol.dispose]()
    this.#socket.destroy()
    this.#lost.abort(reason)
  }
}

/** Asks the library for something and gives it what is to be called with the answer. */
type Request = (done: (error: Error | undefined | null, result?: unknown) => void) => void

type Listed = { readonly filename: string; readonly attrs: { readonly size: number; isDirectory(): boolean } }

function noSftp(host: SshHost, error: Error): AgentError {
  return new AgentError('CONFIG', `${host.name} opened no SFTP session: ${error.message}.`, {
    subject: host.name,
    cause: error,
    next: 'See that its SSH service has the subsystem sftp, and that this user may use it.',
  })
}

/** The directory a path is in; undefined for what has none (`/`, a single name). */
const parentOf = (path: string): string | undefined => {
  const cut = path.replace(/\/+$/u, '').lastIndexOf('/')
  return cut < 0 ? undefined : cut === 0 ? (path.length > 1 ? '/' : undefined) : path.slice(0, cut)
}

function room(path: string, length: number, into: Buffer | undefined): Buffer {
  if (into !== undefined && into.length >= length) return into.subarray(0, length)
  if (length > MOST_BYTES)
    throw new AgentError('INTEGRITY', `${path} has ${length} bytes; no file of a repository has so many.`, { subject: path })
  return Buffer.allocUnsafeSlow(length)
}

/** Does `work` for every piece of `length` bytes, several at once; when one fails or the caller is gone, those under way are waited for. */
async function inPieces(length: Range['length'], options: Abortable, work: (at: number, length: number) => Promise<void>): Promise<void> {
  let next = 0
  let failed = false
  const lane = async (): Promise<void> => {
    while (next < length && !failed) {
      const at = next
      next += PIECE
      try {
        throwIfAborted(options)
        await work(at, Math.min(PIECE, length - at))
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const lanes = Array.from({ length: Math.min(LANES, Math.ceil(length / PIECE)) }, lane)
  for (const result of await Promise.allSettled(lanes)) if (result.status === 'rejected') throw result.reason
}

function missingIsFine(error: unknown): void {
  if (!isNoSuchFile(error)) throw error
}
