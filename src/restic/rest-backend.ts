import { type Abortable, AgentError, effect, isAgentError, type RunId, throwIfAborted } from '../core/index.ts'
import { CONFIG_FILE, type FileKind, type FileRef, type LoadOptions, type RepositoryPlace, type SaveOptions } from './backend.ts'
import { FOLDERS, layoutPath } from './layout.ts'
import { RestClient, type RestClientOptions, roomFor, VERSION_2 } from './rest/rest-client.ts'
import { type ListedFile, readNameList, readSizedList } from './rest/rest-list.ts'
import { Tries, type TriesDeps } from './tries.ts'

/** Packs on their way at once. */
const SAVES_AT_ONCE = 4

export type RestBackendDeps = TriesDeps &
  RestClientOptions & {
    /** As restic writes it, `rest:https://host:port/path/`. */
    readonly url: string
  }

/**
 * A repository on a REST server for restic (docs/formats/restic-rest.md). What passes by itself is done again, after a look whether it was done
 * already; the length of every upload is asked for afterwards. A server in append-only mode removes nothing but locks: `remove` is CONFLICT then, and is asked once.
 */
export function restBackend(deps: RestBackendDeps): RepositoryPlace {
  return new RestBackend(deps)
}

class RestBackend implements RepositoryPlace {
  readonly url: string
  readonly savesAtOnce = SAVES_AT_ONCE
  readonly #deps: RestBackendDeps
  readonly #client: RestClient
  readonly #tries: Tries
  /** The folders are there. */
  #created = false
  #appendOnly = false
  #disposed = false

  constructor(deps: RestBackendDeps) {
    this.url = deps.url
    this.#deps = deps
    this.#client = new RestClient(deps)
    this.#tries = new Tries(deps.url, deps)
  }

  async load(file: FileRef, options: LoadOptions = {}): Promise<Buffer> {
    throwIfAborted(options)
    const path = layoutPath(file, 'flat')
    const { range } = options
    const bytes = await this.#do(file.kind, options, async () => {
      // No range of bytes is empty in HTTP.
      if (range?.length === 0) return (await this.#size(path, options)) === undefined ? undefined : Buffer.alloc(0)
      return range === undefined ? this.#whole(path, options) : this.#part(path, range, options)
    })
    if (bytes === undefined) throw new AgentError('NOT_FOUND', `There is no ${path} in ${this.url}.`, { subject: path })
    return bytes
  }

  async save(file: FileRef, data: Uint8Array, options: SaveOptions = {}): Promise<void> {
    throwIfAborted(options)
    const path = layoutPath(file, 'flat')
    if (file.kind === 'key' || file.kind === 'config') await this.#create(options)
    let tried = false
    await effect({ kind: 'upload', what: `save ${file.kind}`, on: `${this.url} ${path}` }, () =>
      this.#do(file.kind, options, async () => {
        // What an earlier try asked may have been done, though its answer never came.
        if (tried && (await this.#holds(file, data, options))) return
        tried = true
        await this.#upload(file, data, options)
      }),
    )
  }

  async *list(kind: FileKind, options: Abortable = {}): AsyncGenerator<ListedFile> {
    throwIfAborted(options)
    if (kind === 'config') {
      const found = await this.stat(CONFIG_FILE, options)
      if (found !== undefined) yield { name: 'config', size: found.size }
      return
    }
    const path = `${FOLDERS[kind]}/`
    const what = `list ${path}`
    const answer = await this.#do(kind, options, () =>
      this.#client.send({ method: 'GET', path, what, expected: [200, 404] }, { ...options, list: true }),
    )
    if (answer.status === 404) return
    const subject = `list of ${FOLDERS[kind]} from ${this.#client.host}`
    if (answer.type.startsWith(VERSION_2)) {
      yield* readSizedList(answer.body, subject)
      return
    }
    for (const name of readNameList(answer.body, subject)) {
      const found = await this.stat({ kind, name }, options)
      if (found !== undefined) yield { name, size: found.size }
    }
  }

  async stat(file: FileRef, options: Abortable = {}): Promise<{ readonly size: number } | undefined> {
    throwIfAborted(options)
    const path = layoutPath(file, 'flat')
    const size = await this.#do(file.kind, options, () => this.#size(path, options))
    return size === undefined ? undefined : { size }
  }

  async remove(file: FileRef, options: Abortable = {}): Promise<void> {
    throwIfAborted(options)
    const path = layoutPath(file, 'flat')
    if (this.#appendOnly && file.kind !== 'lock') throw this.#onlyAppends(path)
    await effect({ kind: 'upload', what: `remove ${file.kind}`, on: `${this.url} ${path}` }, () =>
      this.#do(file.kind, options, () => this.#delete(file, path, options)),
    )
  }

  /** A server puts whole files in their places; what it was sent a part of is its own to clear away. */
  removeHalfSaved(_run: RunId): Promise<readonly string[]> {
    return Promise.resolve([])
  }

  async removeUnfinished(key: string): Promise<void> {
    if ((await this.stat(CONFIG_FILE)) !== undefined) return
    try {
      await this.remove({ kind: 'key', name: key })
    } catch (error) {
      if (!isAgentError(error, 'CONFLICT')) throw error
      this.#deps.log.warn('the key of a repository that was not finished stays: the server is append-only', { repository: this.url, key })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    await this.#client[Symbol.asyncDispose]()
  }

  #do<T>(kind: FileKind, options: SaveOptions, work: () => Promise<T>): Promise<T> {
    return this.#tries.run(
      () => {
        if (this.#disposed) throw new AgentError('INTERNAL', `${this.url} is used after it was closed.`)
        return work()
      },
      kind,
      options,
    )
  }

  async #whole(path: string, options: LoadOptions): Promise<Buffer | undefined> {
    const into = (status: number, length: number | undefined): Buffer | undefined => {
      if (status !== 200) return undefined
      if (length === undefined) throw this.#strange(`${path} comes without its length`)
      return roomFor(length, options.into, path)
    }
    const { status, body } = await this.#client.send(
      { method: 'GET', path, what: `load ${path}`, expected: [200, 404] },
      { ...options, into },
    )
    return status === 404 ? undefined : body
  }

  async #part(path: string, range: NonNullable<LoadOptions['range']>, options: LoadOptions): Promise<Buffer | undefined> {
    const { offset, length } = range
    const into = (status: number, sent: number | undefined): Buffer | undefined => {
      if (status === 200) throw this.#strange('it sends whole files when a part is asked for')
      return status === 206 && (sent === undefined || sent === length) ? roomFor(length, options.into, path) : undefined
    }
    const headers = { range: `bytes=${offset}-${offset + length - 1}` }
    const answer = await this.#client.send(
      { method: 'GET', path, headers, what: `load ${path}`, expected: [200, 206, 404, 416] },
      { ...options, into, list: true },
    )
    if (answer.status === 404) return undefined
    if (answer.status === 206 && answer.body.length === length) return answer.body
    throw new AgentError('INTEGRITY', `${path} in ${this.url} ends before byte ${offset + length}; it was to be read so far.`, {
      subject: path,
    })
  }

  async #size(path: string, options: Abortable): Promise<number | undefined> {
    const { status, length } = await this.#client.send({ method: 'HEAD', path, what: `look for ${path}`, expected: [200, 404] }, options)
    if (status === 404) return undefined
    if (length === undefined) throw this.#strange(`it does not say how long ${path} is`)
    return length
  }

  /** Whether the file is there with this content. The names of all but the configuration are their digests. */
  async #holds(file: FileRef, data: Uint8Array, options: Abortable): Promise<boolean> {
    const path = layoutPath(file, 'flat')
    if ((await this.#size(path, options)) !== data.length) return false
    if (file.kind !== 'config') return true
    const stored = await this.#whole(path, options)
    return stored !== undefined && Buffer.compare(stored, data) === 0
  }

  async #create(options: SaveOptions): Promise<void> {
    if (this.#created) return
    const request = { method: 'POST', path: '?create=true', what: 'create the repository', expected: [200, 201] } as const
    await effect({ kind: 'upload', what: 'create repository', on: this.url }, () =>
      this.#do('key', options, () => this.#client.send(request, options)),
    )
    this.#created = true
  }

  async #upload(file: FileRef, data: Uint8Array, options: Abortable): Promise<void> {
    const path = layoutPath(file, 'flat')
    const what = `save ${path}`
    const put = { method: 'POST', path, body: data, what, expected: [200, 201, 403] } as const
    let { status } = await this.#client.send(put, options)
    if (status === 403) {
      // The name is taken: as good as saved when it is the same, else replaced where the server lets us.
      const there = await this.#size(path, options)
      if (there !== undefined && (await this.#holds(file, data, options))) return
      if (there !== undefined) await this.#delete(file, path, options)
      ;({ status } = await this.#client.send({ ...put, expected: [200, 201] }, options))
    }
    const stored = await this.#size(path, options)
    if (stored !== data.length) {
      throw new AgentError('UNAVAILABLE', `${this.#client.host} stored ${stored ?? 0} of the ${data.length} bytes of ${path}.`, {
        subject: path,
        retry: 'later',
      })
    }
  }

  async #delete(file: FileRef, path: string, options: Abortable): Promise<void> {
    const { status } = await this.#client.send(
      { method: 'DELETE', path, what: `remove ${path}`, expected: [200, 204, 404, 403, 405] },
      options,
    )
    if (status !== 403 && status !== 405) return
    // It may also refuse to remove what is not there.
    if ((await this.#size(path, options)) === undefined) return
    if (file.kind !== 'lock') this.#appendOnly = true
    throw this.#onlyAppends(path)
  }

  #onlyAppends(path: string): AgentError {
    return new AgentError('CONFLICT', `${this.#client.host} refuses to remove ${path}: the repository is append-only.`, {
      subject: this.url,
      retry: 'never',
      next: 'Remove points and prune on the server itself, or with a login that may.',
    })
  }

  #strange(what: string): AgentError {
    return new AgentError('CONFIG', `${this.#client.host} cannot be used as REST server for restic: ${what}.`, {
      subject: this.#client.host,
      next: 'Check the address: behind it must be a REST server for restic.',
    })
  }
}
