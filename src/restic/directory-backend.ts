import { readdir, stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import {
  type Abortable,
  AgentError,
  ensureDirectory,
  fromErrno,
  isMissing,
  isThere,
  MIB,
  openInput,
  openOutput,
  removeDirectory,
  removeFile,
  removeTree,
  renameFile,
  type RunId,
  syncDirectory,
  throwIfAborted,
} from '../core/index.ts'
import { CONFIG_FILE, type FileKind, type FileRef, type LoadOptions, type RepositoryPlace } from './backend.ts'
import { isHexId } from './ids.ts'
import { FOLDERS, layoutPath } from './layout.ts'
import { OpenPacks } from './open-packs.ts'

/**
 * `f_type` of file systems of one machine (statfs(2)), whose processes all see a directory as it is: ext2 to 4, XFS, Btrfs, tmpfs, ZFS, F2FS. Any other may lie on a server or be shared
 * with another machine, and keep what it knew of a directory for a while.
 */
const LOCAL_FILE_SYSTEMS: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1, 0xf2f52010])

export type DirectoryBackendOptions = {
  /**
   * Names what is being saved, so that what a killed process leaves is found: half-written files are in `.RUN.partial` of the repository, which is
   * made at the first save and goes with `[Symbol.asyncDispose]`. Without it they are beside their places.
   */
  readonly run?: RunId | undefined
}

/**
 * A repository in a local (or mounted) directory, in restic's local layout: packs in `data/<first two hex digits>/`, files 0400,
 * directories 0700. Directories are made when something is saved in them.
 */
export function directoryBackend(path: string, options: DirectoryBackendOptions = {}): RepositoryPlace {
  return new DirectoryBackend(resolve(path), options.run)
}

/** Files of this size, bytes, are packs of blocks, which nobody reads soon. Smaller ones are what the next run begins with. */
const FORGOTTEN_FROM = 4 * MIB

async function removeIfEmpty(path: string): Promise<void> {
  try {
    await removeDirectory(path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && (error.code === 'ENOTEMPTY' || error.code === 'ENOTDIR'))) throw error
  }
}

const roomFor = (length: number, { into }: LoadOptions = {}): Buffer =>
  into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)

function whole(path: string, offset: number, bytes: Buffer, filled: number): Buffer {
  if (filled === bytes.length) return bytes
  throw new AgentError('INTEGRITY', `${path} ends at byte ${offset + filled}; ${offset + bytes.length} were expected.`, { subject: path })
}

class DirectoryBackend implements RepositoryPlace {
  readonly url: string
  readonly #root: string
  /** Where files are written before they are renamed into their places. */
  readonly #partial: string | undefined
  readonly #made = new Set<string>()
  readonly #packs = new OpenPacks()
  #temporary = 0

  constructor(root: string, run: RunId | undefined) {
    this.#root = root
    this.#partial = run === undefined ? undefined : join(root, `.${run}.partial`)
    this.url = root
  }

  async load(file: FileRef, options?: LoadOptions): Promise<Buffer> {
    throwIfAborted(options)
    const path = this.#path(file)
    const { range } = options ?? {}
    try {
      if (file.kind === 'data' && range !== undefined) {
        const bytes = roomFor(range.length, options)
        return whole(path, range.offset, bytes, await this.#packs.read(path, range.offset, bytes))
      }
      await using handle = await openInput(path)
      const { offset, length } = range ?? { offset: 0, length: (await handle.stat()).size }
      const bytes = roomFor(length, options)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return whole(path, offset, bytes, filled)
    } catch (error) {
      throw fromErrno(error, path) ?? error
    }
  }

  async save(file: FileRef, data: Uint8Array, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    const path = this.#path(file)
    const folder = join(path, '..')
    const temporary = this.#temporaryOf(file, path)
    try {
      await this.#ensure(folder)
      if (file.kind === 'config') await this.#layOut()
      await this.#ensure(join(temporary, '..'))
      await using output = await openOutput(temporary, 'wx', 0o400)
      await output.write(data)
      await output.sync()
      if (data.length >= FORGOTTEN_FROM) output.forget()
      await renameFile(temporary, path)
      await syncDirectory(folder)
    } catch (error) {
      await removeFile(temporary)
      throw fromErrno(error, path) ?? error
    }
  }

  async listsAtOnce(): Promise<boolean> {
    try {
      return LOCAL_FILE_SYSTEMS.has((await statfs(join(this.#root, FOLDERS.lock))).type)
    } catch (error) {
      if (isMissing(error)) return false
      throw fromErrno(error, this.#root) ?? error
    }
  }

  async *list(kind: FileKind, options?: Abortable): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    throwIfAborted(options)
    if (kind === 'config') {
      const found = await this.stat({ kind, name: 'config' })
      if (found !== undefined) yield { name: 'config', size: found.size }
      return
    }
    const folder = join(this.#root, FOLDERS[kind])
    if (kind !== 'data') {
      yield* this.#listFolder(folder, options)
      return
    }
    for (const name of await readNames(folder)) {
      if (/^[0-9a-f]{2}$/u.test(name)) yield* this.#listFolder(join(folder, name), options)
    }
  }

  async stat(file: FileRef, options?: Abortable): Promise<{ readonly size: number } | undefined> {
    throwIfAborted(options)
    const path = this.#path(file)
    try {
      return { size: (await stat(path)).size }
    } catch (error) {
      if (isMissing(error)) return undefined
      throw fromErrno(error, path) ?? error
    }
  }

  async remove(file: FileRef, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    const path = this.#path(file)
    try {
      await removeFile(path)
      if (file.kind === 'data') this.#packs.forget(path)
      if (file.kind === 'lock') await removeFile(this.#temporaryOf(file, path))
      await syncDirectory(join(path, '..'))
    } catch (error) {
      if (!isMissing(error)) throw fromErrno(error, path) ?? error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packs[Symbol.asyncDispose]()
    if (this.#partial === undefined || !this.#made.delete(this.#partial)) return
    await removeTree(this.#partial)
  }

  async removeHalfSaved(run: RunId): Promise<readonly string[]> {
    const partial = join(this.#root, `.${run}.partial`)
    try {
      if (!(await isThere(partial))) return []
      await removeTree(partial)
      return [partial]
    } catch (error) {
      // A root that is no directory (any more): nothing of ours can be there.
      if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') return []
      throw fromErrno(error, partial) ?? error
    }
  }

  async removeUnfinished(key: string): Promise<void> {
    const keys = join(this.#root, FOLDERS.key)
    for (const name of await readNames(keys)) if (name.startsWith(`${key}-tmp-`)) await removeFile(join(keys, name))
    if ((await this.stat(CONFIG_FILE)) !== undefined) return
    for (const name of await readNames(this.#root)) if (name.startsWith('config-tmp-')) await removeFile(join(this.#root, name))
    await this.remove({ kind: 'key', name: key })
    const packs = join(this.#root, FOLDERS.data)
    for (const name of await readNames(packs)) await removeIfEmpty(join(packs, name))
    for (const name of Object.values(FOLDERS)) await removeIfEmpty(join(this.#root, name))
  }

  async *#listFolder(folder: string, options?: Abortable): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    for (const name of await readNames(folder)) {
      if (!isHexId(name)) continue
      throwIfAborted(options)
      try {
        const found = await stat(join(folder, name))
        if (found.isFile()) yield { name, size: found.size }
      } catch (error) {
        if (!isMissing(error)) throw fromErrno(error, join(folder, name)) ?? error
      }
    }
  }

  /** The folders of a new repository. Those inside `data` come with the first pack of each, which restic does as well where one is missing. */
  async #layOut(): Promise<void> {
    for (const name of Object.values(FOLDERS)) await ensureDirectory(join(this.#root, name))
    await syncDirectory(this.#root)
  }

  /** Makes a folder and what is above it durable, once. */
  async #ensure(folder: string): Promise<void> {
    if (this.#made.has(folder)) return
    await ensureDirectory(folder)
    for (let above = join(folder, '..'); above.startsWith(this.#root); above = join(above, '..')) await syncDirectory(above)
    this.#made.add(folder)
  }

  /** Of a lock and a key it follows from their names, which are recorded before they are saved. */
  #temporaryOf(file: FileRef, path: string): string {
    if (file.kind === 'lock') return `${path}-tmp`
    if (this.#partial === undefined || file.kind === 'config' || file.kind === 'key')
      return `${path}-tmp-${process.pid}-${++this.#temporary}`
    return join(this.#partial, file.name)
  }

  #path(file: FileRef): string {
    return join(this.#root, layoutPath(file))
  }
}

async function readNames(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw fromErrno(error, folder) ?? error
  }
}
