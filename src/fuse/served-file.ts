import { type Abortable, AgentError, type BlockSink, type BlockSource, type Clock, rangeEnd, toAgentError } from '../core/index.ts'
import { type Attributes, ROOT_NODE } from './protocol.ts'

/** Looking for what is allocated gives up after so long, ms. */
const COUNTING_MS = 1000

/** A disk to show as a file. The source stays the caller's and must outlive the server. */
export type FileToServe = {
  /** A file name; unique among its neighbours. */
  readonly name: string
  readonly source: BlockSource
  /** Where writes go: the same disk as a sink. Absent: read-only. */
  readonly sink?: BlockSink | undefined
  /** The time of its last change that is shown. */
  readonly modified: Date
}

/** What became of a file so far. */
export type FileActivity = {
  readonly name: string
  /** Open now; how often it was opened. */
  readonly openHandles: number
  readonly opens: number
  /** Bytes given to readers. What the kernel had in its cache is not seen here. */
  readonly readBytes: number
  /** The highest byte read, plus one. */
  readonly readTo: number
  /** Why a reader got an error instead of bytes: the first one. */
  readonly readError: AgentError | undefined
  readonly readErrors: number
  /** Of writes, which only overlays take. */
  readonly writeError: AgentError | undefined
  /** Milliseconds of the clock's monotonic time when it was last asked for something; undefined before the first. */
  readonly lastUsedMs: number | undefined
}

/** One file as all its readers share it. */
export class ServedFile {
  readonly name: string
  readonly node: number
  readonly size: number
  readonly writable: boolean
  readonly #file: FileToServe
  readonly #clock: Clock
  #allocated: number
  #openHandles = 0
  #opens = 0
  #readBytes = 0
  #readTo = 0
  #readError: AgentError | undefined
  #readErrors = 0
  #writeError: AgentError | undefined
  #lastUsedMs: number | undefined

  constructor(file: FileToServe, index: number, clock: Clock) {
    this.name = file.name
    this.node = ROOT_NODE + 1 + index
    this.size = file.source.size
    this.writable = file.sink !== undefined
    this.#file = file
    this.#clock = clock
    this.#allocated = this.size
  }

  /**
   * Counts what is allocated, for `st_blocks`. GNU tar takes a file with fewer blocks than bytes for sparse and looks for its holes, and one without blocks
   * for nothing but a hole: so the number is right, or, where it cannot be had within a second, that of a file without holes.
   */
  async count(): Promise<void> {
    const [late, done] = [new AbortController(), new AbortController()]
    const patience = this.#clock.sleep(COUNTING_MS, { signal: done.signal }).then(
      () => late.abort(new AgentError('CANCELED', 'Counting takes too long.')),
      () => undefined, // it was done in time
    )
    let allocated = 0
    try {
      for await (const extent of this.#file.source.extents({ offset: 0, length: this.size }, { signal: late.signal })) {
        if (late.signal.aborted) return
        if (extent.kind === 'data') allocated += extent.length
      }
      this.#allocated = allocated
    } catch (error) {
      if (!late.signal.aborted) throw error
    } finally {
      done.abort()
      await patience
    }
  }

  get activity(): FileActivity {
    return {
      name: this.name,
      openHandles: this.#openHandles,
      opens: this.#opens,
      readBytes: this.#readBytes,
      readTo: this.#readTo,
      readError: this.#readError,
      readErrors: this.#readErrors,
      writeError: this.#writeError,
      lastUsedMs: this.#lastUsedMs,
    }
  }

  attributes(user: number, group: number, permissions = 0o400): Attributes {
    return {
      node: this.node,
      directory: false,
      size: this.size,
      allocated: this.#allocated,
      modified: this.#file.modified,
      permissions: this.writable ? 0o600 : permissions,
      user,
      group,
    }
  }

  opened(): void {
    this.#openHandles++
    this.#opens++
    this.#lastUsedMs = this.#clock.monotonicMs()
  }

  released(): void {
    this.#openHandles--
    this.#lastUsedMs = this.#clock.monotonicMs()
  }

  async read(offset: number, into: Uint8Array, options: Abortable): Promise<void> {
    this.#lastUsedMs = this.#clock.monotonicMs()
    try {
      await this.#file.source.read(offset, into, options)
    } catch (error) {
      // What was canceled by its reader is no error.
      if (options.signal?.aborted !== true) {
        this.#readErrors++
        this.#readError ??= toAgentError(error)
      }
      throw error
    }
    this.#readBytes += into.length
    this.#readTo = Math.max(this.#readTo, offset + into.length)
  }

  async write(offset: number, data: Uint8Array, options: Abortable): Promise<void> {
    if (this.#file.sink === undefined) throw new AgentError('INTERNAL', `${this.name} is read-only.`)
    this.#lastUsedMs = this.#clock.monotonicMs()
    try {
      await this.#file.sink.write(offset, data, options)
    } catch (error) {
      if (options.signal?.aborted !== true) this.#writeError ??= toAgentError(error)
      throw error
    }
  }

  /** The first byte from `offset` on that is data, or that is none; undefined when there is none. The end of the file counts as a hole. */
  async seek(offset: number, wanted: 'data' | 'hole', options: Abortable): Promise<number | undefined> {
    if (offset >= this.size) return undefined
    let end = offset
    for await (const extent of this.#file.source.extents({ offset, length: this.size - offset }, options)) {
      if ((extent.kind === 'data') === (wanted === 'data')) return extent.offset
      end = rangeEnd(extent)
    }
    return wanted === 'hole' ? end : undefined
  }
}
