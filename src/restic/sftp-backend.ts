import { type Abortable, AgentError, effect, isAgentError, type RunId, throwIfAborted, toAgentError, unlessAborted } from '../core/index.ts'
import { CONFIG_FILE, type FileKind, type FileRef, type LoadOptions, type RepositoryPlace, type SaveOptions } from './backend.ts'
import { isHexId } from './ids.ts'
import { FOLDERS, layoutPath } from './layout.ts'
import { Tries, type TriesDeps } from './tries.ts'

/** Packs on their way at once. */
const SAVES_AT_ONCE = 4
/** Only the user that logs in, as restic has it there. */
const PERMISSIONS = 0o600

/** The files of a server, as `SftpSession` of the room ssh has them; `lost` aborts when they can be had no more. */
export interface ServerFiles extends AsyncDisposable {
  readonly lost: AbortSignal
  /** Whether a rename replaces what has the name. */
  readonly renamesOver: boolean
  stat(path: string, options?: Abortable): Promise<{ readonly size: number } | undefined>
  read(path: string, options?: LoadOptions): Promise<Buffer>
  /** Fails where there is one; durable, where the server can. */
  write(path: string, data: Uint8Array, permissions: number, options?: Abortable): Promise<void>
  /** CONFLICT when the name is taken and a rename does not replace it. */
  rename(from: string, to: string, options?: Abortable): Promise<void>
  remove(path: string, options?: Abortable): Promise<void>
  /** False when it is not empty. */
  removeDirectory(path: string, options?: Abortable): Promise<boolean>
  ensureDirectory(path: string, options?: Abortable): Promise<void>
  list(path: string, options?: Abortable): Promise<readonly { readonly name: string; readonly size: number; readonly directory: boolean }[]>
  syncDirectory(path: string, options?: Abortable): Promise<void>
}

export type SftpBackendDeps = TriesDeps & {
  /** As restic writes it, `sftp:user@host:/path`. */
  readonly url: string
  /** The repository's directory there; relative to the user's own where it does not begin with a slash. */
  readonly root: string
  /** Logs in. Called at first use and again when the session was lost; the backend disposes what it gets. */
  readonly connect: (options?: Abortable) => Promise<ServerFiles>
  /** As of the directory backend: names what is half saved. */
  readonly run?: RunId | undefined
}

/**
 * A repository on a server over SFTP, laid out as in a directory, so that stock restic opens the same. A file is written under a temporary name,
 * synchronised where the server can, and renamed into its place. One session carries all calls; what its loss interrupts is done again.
 */
export function sftpBackend(deps: SftpBackendDeps): RepositoryPlace {
  return new SftpBackend(deps)
}

class SftpBackend implements RepositoryPlace {
  readonly url: string
  readonly savesAtOnce = SAVES_AT_ONCE
  readonly #root: string
  readonly #deps: SftpBackendDeps
  readonly #tries: Tries
  readonly #partial: string | undefined
  readonly #made = new Set<string>()
  #session: Promise<ServerFiles> | undefined
  #temporary = 0
  #disposed = false

  constructor(deps: SftpBackendDeps) {
    this.url = deps.url
    this.#deps = deps
    this.#root = deps.root.length > 1 ? deps.root.replace(/\/+$/u, '') : deps.root
    this.#partial = deps.run === undefined ? undefined : this.#inside(`.${deps.run}.partial`)
    this.#tries = new Tries(deps.url, deps)
  }

  load(file: FileRef, options: LoadOptions = {}): Promise<Buffer> {
    return this.#do(file.kind, options, (files) => files.read(this.#path(file), options))
  }

  async save(file: FileRef, data: Uint8Array, options: SaveOptions = {}): Promise<void> {
    throwIfAborted(options)
    const path = this.#path(file)
    const temporaries: string[] = []
    await effect({ kind: 'upload', what: `save ${file.kind}`, on: `${this.url} ${path}` }, async () => {
      try {
        await this.#do(file.kind, options, async (files) => {
          // Each try has a name of its own: what an earlier one asked of a session that was lost may still be done, whenever.
          const temporary = this.#newTemporary(file, path)
          temporaries.push(temporary)
          await this.#saveOnce(files, { path, temporary, data, layOut: file.kind === 'config' }, options)
          temporaries.pop()
        })
      } finally {
        await this.#discard(temporaries)
      }
    })
  }

  async *list(kind: FileKind, options: Abortable = {}): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    throwIfAborted(options)
    if (kind === 'config') {
      const found = await this.stat(CONFIG_FILE, options)
      if (found !== undefined) yield { name: 'config', size: found.size }
      return
    }
    const folder = this.#inside(FOLDERS[kind])
    if (kind !== 'data') {
      yield* await this.#files(folder, options)
      return
    }
    for (const { name } of await this.#do(kind, options, (files) => files.list(folder, options)))
      if (/^[0-9a-f]{2}$/u.test(name)) yield* await this.#files(`${folder}/${name}`, options)
  }

  async stat(file: FileRef, options: Abortable = {}): Promise<{ readonly size: number } | undefined> {
    throwIfAborted(options)
    const path = this.#path(file)
    const found = await this.#do(file.kind, options, (files) => files.stat(path, options))
    return found === undefined ? undefined : { size: found.size }
  }

  async remove(file: FileRef, options: Abortable = {}): Promise<void> {
    throwIfAborted(options)
    const path = this.#path(file)
    await effect({ kind: 'upload', what: `remove ${file.kind}`, on: `${this.url} ${path}` }, () =>
      this.#do(file.kind, options, async (files) => {
        await files.remove(path, options)
        if (file.kind === 'lock') await removeNamed(files, parentOf(path), `${file.name}-tmp-`)
        if ((await files.stat(parentOf(path), options)) !== undefined) await files.syncDirectory(parentOf(path), options)
      }),
    )
  }

  async removeHalfSaved(run: RunId): Promise<readonly string[]> {
    const partial = this.#inside(`.${run}.partial`)
    return this.#do('lock', {}, async (files) => {
      if ((await files.stat(partial)) === undefined) return []
      await this.#changing('remove partials', partial, () => removeFolder(files, partial))
      return [`${this.url} ${partial}`]
    })
  }

  async removeUnfinished(key: string): Promise<void> {
    const keys = this.#inside(FOLDERS.key)
    await this.#changing('remove unfinished', keys, () => this.#do('key', {}, (files) => removeNamed(files, keys, `${key}-tmp-`)))
    if ((await this.stat(CONFIG_FILE)) !== undefined) return
    await this.remove({ kind: 'key', name: key })
    await this.#changing('remove unfinished', this.#root, () =>
      this.#do('key', {}, async (files) => {
        await removeNamed(files, this.#root, 'config-tmp-')
        const packs = this.#inside(FOLDERS.data)
        for (const { name, directory } of await files.list(packs)) if (directory) await files.removeDirectory(`${packs}/${name}`)
        for (const name of Object.values(FOLDERS)) await files.removeDirectory(this.#inside(name))
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    await using files = await this.#session?.catch(() => undefined) // whoever opened it was told
    const partial = this.#partial
    if (files === undefined || files.lost.aborted || partial === undefined || !this.#made.has(partial)) return
    try {
      await this.#changing('remove partials', partial, () => removeFolder(files, partial))
    } catch (error) {
      // It stays until recovery comes upon it; what was saved is in its place.
      this.#deps.log.warn('the folder of half-saved files could not be removed', {
        repository: this.url,
        error: toAgentError(error).message,
      })
    }
  }

  async #files(folder: string, options: Abortable): Promise<readonly { readonly name: string; readonly size: number }[]> {
    const names = await this.#do(undefined, options, (files) => files.list(folder, options))
    return names.filter(({ name, directory }) => isHexId(name) && !directory).map(({ name, size }) => ({ name, size }))
  }

  /** Work on a living session, again when that is lost under it. */
  #do<T>(kind: FileKind | undefined, options: SaveOptions, work: (files: ServerFiles) => Promise<T>): Promise<T> {
    return this.#tries.run(async () => work(await this.#connected(options)), kind, options)
  }

  async #connected(options: Abortable): Promise<ServerFiles> {
    if (this.#disposed) throw new AgentError('INTERNAL', `${this.url} is used after it was closed.`)
    const current = this.#session
    if (current !== undefined) {
      const files = await current.catch(() => undefined) // its opening failed: tried again below
      if (files?.lost.aborted === false) return files
      // Somebody may have begun another one meanwhile.
      if (this.#session !== current) return this.#connected(options)
    }
    // Its opening is nobody's alone: one caller that is canceled does not end it for the others.
    const opening = this.#deps.connect()
    this.#session = opening
    opening.catch(() => undefined) // whoever waits for it is told
    return unlessAborted(opening, options.signal)
  }

  async #saveOnce(files: ServerFiles, { path, temporary, data, layOut }: Saving, options: Abortable): Promise<void> {
    const folder = parentOf(path)
    try {
      await this.#ensure(files, folder)
      if (layOut) await this.#layOut(files)
      await this.#ensure(files, parentOf(temporary))
      await files.write(temporary, data, PERMISSIONS, options)
      await putInPlace(files, temporary, path, data)
    } catch (error) {
      // Somebody removed a directory that was there: the next try makes it anew.
      if (!isAgentError(error, 'NOT_FOUND')) throw error
      this.#made.clear()
      throw new AgentError('UNAVAILABLE', error.message, { subject: path, cause: error })
    }
    await files.syncDirectory(folder)
  }

  /** Makes a directory and those above it durable, once. */
  async #ensure(files: ServerFiles, folder: string): Promise<void> {
    if (this.#made.has(folder)) return
    await files.ensureDirectory(folder)
    if (folder.startsWith(this.#root) && folder !== this.#root) await files.syncDirectory(parentOf(folder))
    this.#made.add(folder)
  }

  async #layOut(files: ServerFiles): Promise<void> {
    for (const name of Object.values(FOLDERS)) await files.ensureDirectory(this.#inside(name))
    await files.syncDirectory(this.#root)
  }

  /** What failed tries left, as far as the server can still be reached; what stays is in no list. */
  async #discard(temporaries: readonly string[]): Promise<void> {
    if (temporaries.length === 0) return
    const files = await this.#session?.catch(() => undefined) // there is no session: nothing to be done
    if (files === undefined || files.lost.aborted) return
    try {
      for (const temporary of temporaries) await files.remove(temporary)
    } catch (error) {
      this.#deps.log.info('half a file could not be removed', { repository: this.url, error: toAgentError(error).message })
    }
  }

  #changing<T>(what: string, on: string, work: () => Promise<T>): Promise<T> {
    return effect({ kind: 'upload', what, on: `${this.url} ${on}` }, work)
  }

  /** Of a lock and a key its beginning follows from their names, which are recorded before they are saved. */
  #newTemporary(file: FileRef, path: string): string {
    const end = `${process.pid}-${++this.#temporary}`
    const own = this.#partial === undefined || file.kind === 'lock' || file.kind === 'config' || file.kind === 'key'
    return own ? `${path}-tmp-${end}` : `${this.#partial}/${file.name}-${end}`
  }

  #path(file: FileRef): string {
    return this.#inside(layoutPath(file))
  }

  #inside(path: string): string {
    return this.#root === '/' ? `/${path}` : `${this.#root}/${path}`
  }
}

type Saving = { readonly path: string; readonly temporary: string; readonly data: Uint8Array; readonly layOut: boolean }

/** A server that does not rename over a file: the same content is left as it is, also when an earlier try of ours put it there. */
async function putInPlace(files: ServerFiles, temporary: string, path: string, data: Uint8Array): Promise<void> {
  try {
    await files.rename(temporary, path)
  } catch (error) {
    if (isAgentError(error, 'NOT_FOUND') && (await isThis(files, path, data))) return
    if (!isAgentError(error, 'CONFLICT')) throw error
    if (await isThis(files, path, data)) {
      await files.remove(temporary)
      return
    }
    await files.remove(path)
    await files.rename(temporary, path)
  }
}

async function isThis(files: ServerFiles, path: string, data: Uint8Array): Promise<boolean> {
  const found = await files.stat(path)
  return found?.size === data.length && Buffer.compare(await files.read(path), data) === 0
}

async function removeNamed(files: ServerFiles, folder: string, begin: string): Promise<void> {
  for (const { name } of await files.list(folder)) if (name.startsWith(begin)) await files.remove(`${folder}/${name}`)
}

/** A folder of temporary files, which has no folders in it. */
async function removeFolder(files: ServerFiles, folder: string): Promise<void> {
  for (const { name } of await files.list(folder)) await files.remove(`${folder}/${name}`)
  await files.removeDirectory(folder)
}

const parentOf = (path: string): string => {
  const cut = path.lastIndexOf('/')
  return cut < 0 ? '.' : cut === 0 ? '/' : path.slice(0, cut)
}
