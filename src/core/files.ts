import { close, constants, open as openNumber, writeSync } from 'node:fs'
import { access, chmod, type FileHandle, lchown, link, lstat, mkdir, mkdtemp, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { effect } from './effect.ts'
import { fromErrno } from './errors.ts'
import { leavePageCache } from './page-cache.ts'

/* Every change to the local file system goes through here, so that each is an `Effect`; elsewhere `node:fs` is for reading. Errors are Node's
   own unless said otherwise: the rooms translate them where they know what the path means. Syncing is none: it changes when, not what. */

const file = <T>(what: string, on: string, work: () => Promise<T>): Promise<T> => effect({ kind: 'file', what, on }, work)

/** An open file that cannot be written to. */
export type InputFile = Pick<FileHandle, 'fd' | 'read' | 'stat' | 'close' | typeof Symbol.asyncDispose>

/**
 * Opens a file for reading. `careful`: a symbolic link is refused with ELOOP, and nothing is waited for, as the open of a FIFO nobody writes to
 * would for ever.
 */
export function openInput(path: string, options: { readonly careful?: boolean | undefined } = {}): Promise<InputFile> {
  return open(path, constants.O_RDONLY | (options.careful === true ? constants.O_NONBLOCK | constants.O_NOFOLLOW : 0))
}

/**
 * Opens a file for reading, by number: for files that stay open as long as somebody may read them again, where a handle that is forgotten would end the
 * process. It is closed with `closeDescriptor`.
 */
export const openDescriptor = (path: string): Promise<number> => promisify(openNumber)(path, constants.O_RDONLY)

export const closeDescriptor = (descriptor: number): Promise<void> => promisify(close)(descriptor)

/** Opens a file whose descriptor a program is given to append to; made when it is missing, private to the user. Errors: CONFIG, CAPACITY. */
export async function openToAppend(path: string): Promise<InputFile> {
  try {
    return await file('open to append', path, () => open(path, 'a', 0o600))
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

/** An open log, whose end whole lines are written to. */
export type LogHandle = Pick<FileHandle, 'write' | 'stat' | 'close'>

/**
 * Opens a log to append lines to; made when it is missing, private to the user. Several processes may: each write lands whole at the end. Lines are no effects
 * (docs/adr/0008). Errors: Node's own.
 */
export function openLogLines(path: string): Promise<LogHandle> {
  return open(path, 'a', 0o600)
}

/** How a file is opened: new (fails when it exists), made or emptied, an existing one to write into, or made or added to at its end. */
export type OutputMode = 'wx' | 'wx+' | 'w' | 'r+' | 'a'

/** An open file to write to. */
export interface OutputFile extends AsyncDisposable {
  readonly path: string
  /** For `ioctl`-like questions about holes; never to write with. */
  readonly fd: number
  /** Writes all of `data` at `position` (bytes), or where the last write ended. */
  write(data: Uint8Array, position?: number): Promise<void>
  /** A write that another thread of this process does, at a place of its own; fails as `work` does. */
  writeBy<T>(work: (descriptor: number) => Promise<T>): Promise<T>
  /** Reads at most `into.length` bytes; the number read. */
  read(into: Uint8Array, position: number): Promise<number>
  truncate(size: number): Promise<void>
  /** Everything written is durable when it resolves. */
  sync(): Promise<void>
  /** After `sync`, for what nobody reads soon: the system need not keep it in memory (`leavePageCache`). */
  forget(): void
  size(): Promise<number>
  close(): Promise<void>
}

/** Opens a file for writing; `permissions` (0600) count for a new one. */
export async function openOutput(path: string, mode: OutputMode, permissions = 0o600): Promise<OutputFile> {
  return new HandleOutput(path, await file(mode === 'r+' ? 'open' : 'create', path, () => open(path, mode, permissions)))
}

class HandleOutput implements OutputFile {
  readonly path: string
  readonly #handle: FileHandle

  constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  get fd(): number {
    return this.#handle.fd
  }

  write(data: Uint8Array, position?: number): Promise<void> {
    return file('write', this.path, async () => {
      for (let done = 0; done < data.length; ) {
        const at = position === undefined ? null : position + done
        done += (await this.#handle.write(data, done, data.length - done, at)).bytesWritten
      }
    })
  }

  writeBy<T>(work: (descriptor: number) => Promise<T>): Promise<T> {
    return file('write', this.path, () => work(this.#handle.fd))
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.read(into, 0, into.length, position)).bytesRead
  }

  truncate(size: number): Promise<void> {
    return file('truncate', this.path, () => this.#handle.truncate(size))
  }

  sync(): Promise<void> {
    return this.#handle.sync()
  }

  forget(): void {
    leavePageCache(this.#handle.fd)
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close()
  }
}

/** Writes all of `data` at `position` (bytes) and waits for it: for a worker thread that `OutputFile.writeBy` gave a descriptor, which is where the effect is. Errors: Node's own. */
export function writeHere(descriptor: number, data: Uint8Array, position: number): void {
  for (let done = 0; done < data.length; ) done += writeSync(descriptor, data, done, data.length - done, position + done)
}

/** Writes to an attribute of sysfs, which may allow nothing but that: neither made nor cut. Errors: Node's own, ENOENT when there is none. */
export async function writeAttribute(path: string, text: string): Promise<void> {
  await file('write attribute', path, async () => {
    await using handle = await open(path, constants.O_WRONLY)
    await handle.write(text)
  })
}

/** Writes a small new or emptied file whole. Not atomic: for files inside a directory that is itself not in its place yet. */
export async function writeFileWhole(path: string, data: Uint8Array | string, permissions = 0o600): Promise<void> {
  await using output = await openOutput(path, 'w', permissions)
  await output.write(typeof data === 'string' ? Buffer.from(data) : data)
}

/**
 * Writes a whole file so that after a crash at any moment the old or the new content is there, never a part: temporary file beside it,
 * fsync, rename, fsync of the directory. `mode` defaults to 0600. Errors: CAPACITY, CONFIG.
 */
export async function writeFileAtomic(path: string, data: Uint8Array | string, mode = 0o600): Promise<void> {
  const temporary = takeTemporary(path)
  try {
    await using output = await openOutput(temporary, 'w', mode)
    await output.write(typeof data === 'string' ? Buffer.from(data) : data)
    await output.sync()
    await renameFile(temporary, path)
  } catch (error) {
    await removeFile(temporary)
    throw fromErrno(error, path) ?? error
  } finally {
    temporaries.delete(temporary)
  }
  await syncDirectory(dirname(path))
}

/**
 * Writes a whole file that must not exist yet, durable when it resolves: of several processes that try at once, one wins with all its bytes.
 * False when it is there already, untouched. Errors: CAPACITY, CONFIG.
 */
export async function writeFileOnce(path: string, data: Uint8Array | string, permissions = 0o600): Promise<boolean> {
  const temporary = takeTemporary(path)
  try {
    await using output = await openOutput(temporary, 'w', permissions)
    await output.write(typeof data === 'string' ? Buffer.from(data) : data)
    await output.sync()
    await file('link', path, () => link(temporary, path))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw fromErrno(error, path) ?? error
  } finally {
    await removeFile(temporary)
    temporaries.delete(temporary)
  }
  await syncDirectory(dirname(path))
  return true
}

/** Names in use: two tasks of this process may write the same file at once, as two processes may. */
const temporaries = new Set<string>()

function takeTemporary(path: string): string {
  let name = `${path}.${process.pid}.tmp`
  for (let number = 2; temporaries.has(name); number++) name = `${path}.${process.pid}.${number}.tmp`
  temporaries.add(name)
  return name
}

/** Gives a file or directory another name, replacing what has it. Atomic. */
export function renameFile(from: string, to: string): Promise<void> {
  return file('rename', to, () => rename(from, to))
}

/** Removes a file; one that is gone already is success. */
export async function removeFile(path: string): Promise<void> {
  try {
    await file('remove', path, () => unlink(path))
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

/** Removes an empty directory; one that is gone already is success. */
export async function removeDirectory(path: string): Promise<void> {
  try {
    await file('remove directory', path, () => rmdir(path))
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

/**
 * Removes a file, or a directory with all that is in it, one name at a time and without following symbolic links. Not atomic; idempotent, so
 * that it is simply done again after a crash.
 */
export async function removeTree(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isDirectory()) return await removeFile(path)
    for (const entry of await readdir(path)) await removeTree(join(path, entry))
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  await removeDirectory(path)
}

/** Makes one directory, private to the user; fails when it exists. */
export async function makeDirectory(path: string): Promise<void> {
  await file('make directory', path, () => mkdir(path, { mode: 0o700 }))
}

/** Makes a directory with a random ending, private to the user; its path. (The effect knows its beginning alone.) */
export function makeTemporaryDirectory(prefix: string): Promise<string> {
  return file('make temporary directory', prefix, () => mkdtemp(prefix))
}

/** Makes a directory and its parents where they are missing, private to the user. Errors: CAPACITY, CONFIG, NOT_FOUND. */
export async function ensureDirectory(path: string): Promise<void> {
  try {
    await file('make directories', path, () => mkdir(path, { recursive: true, mode: 0o700 }))
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

/** Sets who may read and write a file or directory: permission bits, as 0600. */
export async function setPermissions(path: string, permissions: number): Promise<void> {
  await file('set permissions', path, () => chmod(path, permissions))
}

/** Sets whose a file or directory is, by number; only root can. A symbolic link is not followed. */
export async function setOwner(path: string, user: number, group: number): Promise<void> {
  await file('set owner', path, () => lchown(path, user, group))
}

/** Makes names created or removed in `path` durable. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r')
  await directory.sync()
}

/** True for ENOENT. */
export const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT'

/** Whether anything has this name. Any other answer than yes or ENOENT is thrown. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Of open(2), which Node does not name: a file without a name in a directory. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY

/**
 * A file that nobody else sees: it has no name when this resolves, and its space is free again when it is closed or the process dies. Hence writing
 * to it is no effect. Where the file system of `directory` knows no such files, it loses its name at once. Errors: Node's own.
 */
export async function openScratch(directory: string): Promise<ScratchFile> {
  try {
    return await file('create scratch', directory, () => open(directory, constants.O_RDWR | O_TMPFILE, 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && ['EOPNOTSUPP', 'EISDIR', 'EINVAL'].includes(String(error.code)))) throw error
  }
  const holder = await makeTemporaryDirectory(join(directory, 'scratch-'))
  const path = join(holder, 'overlay')
  try {
    const handle = await file('create', path, () => open(path, 'wx+', 0o600))
    await removeFile(path)
    return handle
  } finally {
    await removeDirectory(holder)
  }
}

/** An unnamed file, or a device that a protocol is spoken with. */
export type ScratchFile = Pick<FileHandle, 'fd' | 'read' | 'write' | 'close' | typeof Symbol.asyncDispose>

/** The kernel's FUSE device: each open is a connection of its own. What is written are answers to its requests, and no effects. Errors: Node's own. */
export function openFuseDevice(): Promise<ScratchFile> {
  return open('/dev/fuse', 'r+')
}
