import { dirname } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSink,
  fromErrno,
  isZero,
  openOutput,
  type OutputFile,
  type Range,
  rangeEnd,
  removeFile,
  syncDirectory,
  throwIfAborted,
  type FilePlace,
  WriteBack,
} from '../core/index.ts'
import { fileExtents } from './file-holes.ts'
import { checkInside } from './inside.ts'

/** Zero runs shorter than this are written as data; file systems allocate no smaller. */
const BLOCK = 4096
const CLEAR = 1024 * 1024
/** Whether anything was written is kept for each 16 MiB of the file, a byte each; what was not is zero still. */
const REGION = 16 * 1024 * 1024
/** What was done to a region: `write`, which may come again to the same place, or only `writeBy`, which may not. */
const WRITTEN = 1
const PLACED = 2

/** A sink that is a file of this machine. */
export type RawSink = BlockSink & Required<Pick<BlockSink, 'writeBy'>>

/**
 * A new raw image of `size` bytes, sparse: full length at once, only bytes that are not zero take space. Readable by its user alone.
 * Disposed without `flush`, the file is removed. Errors: CONFLICT (exists), CAPACITY, CONFIG, NOT_FOUND.
 */
export async function createRawFile(path: string, size: number): Promise<RawSink> {
  let handle: OutputFile
  try {
    handle = await openOutput(path, 'wx+')
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
  const file = new RawFile(path, size, handle)
  try {
    await handle.truncate(size)
    return file
  } catch (error) {
    await file[Symbol.asyncDispose]()
    const tooLarge = error instanceof Error && 'code' in error && (error.code === 'EFBIG' || error.code === 'EINVAL')
    if (!tooLarge) throw fromErrno(error, path) ?? error
    throw new AgentError('CAPACITY', `The file system of ${path} cannot hold a file of ${size} bytes.`, { subject: path, cause: error })
  }
}

/**
 * A block device of `size` bytes that reads as zeros from end to end, to be written to; only what is not zero is. What was written stays when it is
 * disposed without `flush`: the device is its owner's. Errors: NOT_FOUND, CONFIG, UNAVAILABLE.
 */
export async function openRawDevice(path: string, size: number): Promise<RawSink> {
  try {
    return new RawFile(path, size, await openOutput(path, 'r+'), 'device')
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

class RawFile implements RawSink {
  readonly size: number
  readonly #path: string
  readonly #handle: OutputFile
  readonly #touched: Uint8Array
  readonly #kind: 'file' | 'device'
  readonly #back: WriteBack
  #complete = false

  constructor(path: string, size: number, handle: OutputFile, kind: 'file' | 'device' = 'file') {
    this.#kind = kind
    this.size = size
    this.#path = path
    this.#handle = handle
    this.#back = new WriteBack(handle)
    this.#touched = new Uint8Array(Math.ceil(size / REGION))
  }

  async write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    checkInside(offset, data.length, this.size, this.#path)
    throwIfAborted(options)
    for (let at = 0; at < data.length; ) {
      const start = at
      const zero = isZero(data.subarray(at, at + BLOCK))
      do at = Math.min(at + BLOCK, data.length)
      while (at < data.length && at - start < CLEAR && isZero(data.subarray(at, at + BLOCK)) === zero)
      throwIfAborted(options)
      if (zero) await this.#clear({ offset: offset + start, length: at - start })
      else await this.#put(offset + start, data.subarray(start, at))
    }
  }

  async writeBy(range: Range, work: (place: FilePlace) => Promise<number | undefined>, options?: Abortable): Promise<number | undefined> {
    checkInside(range.offset, range.length, this.size, this.#path)
    throwIfAborted(options)
    if (this.#holds(range, WRITTEN)) return undefined
    this.#touch(range, PLACED)
    const written = await this.#handle
      .writeBy((descriptor) => work({ descriptor, at: range.offset }))
      .catch((error: unknown) => {
        throw fromErrno(error, this.#path) ?? error
      })
    this.#back.wrote(written ?? 0)
    return written
  }

  async zero(range: Range, options?: Abortable): Promise<void> {
    checkInside(range.offset, range.length, this.size, this.#path)
    throwIfAborted(options)
    await this.#clear(range)
  }

  async flush(): Promise<void> {
    try {
      await this.#back.flush()
      if (this.#kind === 'file') await syncDirectory(dirname(this.#path))
    } catch (error) {
      throw fromErrno(error, this.#path) ?? error
    }
    this.#complete = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#back.ended()
    await this.#handle.close()
    if (!this.#complete && this.#kind === 'file') await removeFile(this.#path)
  }

  /** What was never written, and every hole, is zero already; only data is overwritten. */
  async #clear(range: Range): Promise<void> {
    const end = rangeEnd(range)
    for (let at = range.offset; at < end; ) {
      const first = Math.floor(at / REGION)
      const touched = this.#touched[first]
      let last = first
      while ((last + 1) * REGION < end && this.#touched[last + 1] === touched) last++
      const stop = Math.min((last + 1) * REGION, end)
      if (touched !== 0) await this.#clearTouched({ offset: at, length: stop - at })
      at = stop
    }
  }

  async #clearTouched(range: Range): Promise<void> {
    const known = fileExtents(this.#handle.fd, range)
    if (known === undefined) return this.#clearByReading(range)
    for (const extent of known) if (extent.kind === 'data') await this.#clearByReading(extent)
  }

  async #clearByReading(range: Range): Promise<void> {
    const buffer = Buffer.allocUnsafe(Math.min(CLEAR, range.length))
    for (let done = 0; done < range.length; ) {
      const part = buffer.subarray(0, Math.min(CLEAR, range.length - done))
      const bytesRead = await this.#handle.read(part, range.offset + done)
      if (bytesRead === 0) throw new AgentError('UNAVAILABLE', `${this.#path} was cut while it was being written.`, { subject: this.#path })
      const read = part.subarray(0, bytesRead)
      if (!isZero(read)) await this.#put(range.offset + done, read.fill(0))
      done += bytesRead
    }
  }

  async #put(offset: number, data: Uint8Array): Promise<void> {
    this.#touch({ offset, length: data.length }, WRITTEN)
    try {
      await this.#handle.write(data, offset)
    } catch (error) {
      throw fromErrno(error, this.#path) ?? error
    }
    this.#back.wrote(data.length)
  }

  #touch(range: Range, how: number): void {
    for (let region = Math.floor(range.offset / REGION); region * REGION < rangeEnd(range); region++)
      if (this.#touched[region] !== WRITTEN) this.#touched[region] = how
  }

  #holds(range: Range, how: number): boolean {
    return this.#touched.subarray(Math.floor(range.offset / REGION), Math.ceil(rangeEnd(range) / REGION)).includes(how)
  }
}
