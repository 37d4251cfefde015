import {
  type Abortable,
  AgentError,
  type Extent,
  fromErrno,
  type InputFile,
  openInput,
  type Range,
  rangeEnd,
  throwIfAborted,
} from '../core/index.ts'
import { type ByteSource, handOver } from './byte-source.ts'
import { fileExtents } from './file-holes.ts'
import { checkInside } from './inside.ts'

export type LocalFileOptions = {
  /** Also accept block devices (a LUN, a hot-added disk). Default false. */
  readonly devices?: boolean | undefined
}

/**
 * Opens a local file for reading; the caller disposes it. FIFOs, sockets and devices are refused before they can block.
 * Errors: NOT_FOUND, CONFIG (no permission, not a regular file).
 */
export async function openLocalFile(path: string, options: LocalFileOptions = {}): Promise<ByteSource> {
  const handle = await openInput(path, { careful: true }).catch((error: unknown) => {
    throw translate(error, path)
  })
  return handOver(handle, async () => {
    const facts = await handle.stat()
    if (facts.isFile()) return new LocalFile(path, facts.size, handle)
    if (facts.isBlockDevice() && options.devices === true) return new LocalFile(path, await deviceSize(handle, path), handle)
    throw new AgentError('CONFIG', `${path} is not a regular file.`, { subject: path, next: 'Name a VMDK file.' })
  })
}

/** stat says 0 for a block device; the largest readable offset is its size. */
async function deviceSize(handle: InputFile, path: string): Promise<number> {
  const probe = Buffer.allocUnsafe(512)
  const readable = async (offset: number): Promise<boolean> => (await handle.read(probe, 0, 512, offset)).bytesRead === 512
  if (!(await readable(0))) throw new AgentError('UNAVAILABLE', `The device ${path} is empty or cannot be read.`, { subject: path })
  let low = 0
  let high = 512
  while (await readable(high)) {
    low = high
    high *= 2
  }
  while (high - low > 512) {
    const middle = Math.floor((low + high) / 1024) * 512
    if (await readable(middle)) low = middle
    else high = middle
  }
  return high
}

class LocalFile implements ByteSource {
  readonly name: string
  readonly size: number
  readonly #handle: InputFile
  /** The data that a walk found last: a file system may walk all of it to answer, and an incremental asks for many small parts of the same. */
  #data: Range = { offset: 0, length: 0 }

  constructor(name: string, size: number, handle: InputFile) {
    this.name = name
    this.size = size
    this.#handle = handle
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, into.length, this.size, this.name)
    // Node's number of a handle that was closed.
    if (this.#handle.fd < 0) throw new AgentError('INTERNAL', `${this.name} is closed.`, { subject: this.name })
    let done = 0
    while (done < into.length) {
      throwIfAborted(options)
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, offset + done).catch((error: unknown) => {
        throw translate(error, this.name)
      })
      if (bytesRead === 0) {
        throw new AgentError('INTEGRITY', `${this.name} ended at byte ${offset + done} although it was ${this.size} bytes long.`, {
          subject: this.name,
          next: 'The file was cut while it was being read; take a new snapshot and run the backup again.',
        })
      }
      done += bytesRead
    }
  }

  async *dataExtents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    checkInside(range.offset, range.length, this.size, this.name)
    if (range.length === 0) return
    const end = rangeEnd(range)
    if (range.offset >= this.#data.offset && end <= rangeEnd(this.#data)) {
      yield { ...range, kind: 'data' }
      return
    }
    // Not only to the end of `range`: the file system looks for the end of the data in any case, and what comes next need not be asked for.
    const extents = fileExtents(this.#handle.fd, { offset: range.offset, length: this.size - range.offset })
    if (extents === undefined) {
      yield { ...range, kind: 'data' }
      return
    }
    for (const extent of extents) {
      throwIfAborted(options)
      if (extent.kind === 'data') this.#data = extent
      yield { ...extent, length: Math.min(rangeEnd(extent), end) - extent.offset }
      if (rangeEnd(extent) >= end) return
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close()
  }
}

function translate(error: unknown, path: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ESTALE' || code === 'EREMOTEIO' || code === 'ENXIO' || code === 'EAGAIN' || code === 'EBUSY') {
    return new AgentError('UNAVAILABLE', `${path} cannot be read now (${code}).`, { subject: path, cause: error, retry: 'later' })
  }
  if (code === 'ELOOP') {
    return new AgentError('CONFIG', `${path} is a symbolic link.`, { subject: path, cause: error, next: 'Name the file itself.' })
  }
  if (code === 'ENAMETOOLONG' || code === 'ENOTDIR' || code === 'ERR_INVALID_ARG_VALUE') {
    return new AgentError('NOT_FOUND', `${JSON.stringify(path.slice(0, 300))} does not exist.`, { subject: path, cause: error })
  }
  return fromErrno(error, path) ?? error
}
