import { type Abortable, AgentError, type BlockSource, type Clock, type Extent, type Range, rangeEnd, toAgentError } from '../core/index.ts'

/** A disk to offer. `name` is what clients ask for; the source stays the caller's and must outlive the server. */
export type NbdExport = { readonly name: string; readonly description?: string | undefined; readonly source: BlockSource }

/** What became of an export so far: what whoever handed it out must know before calling a copy good. */
export type ExportActivity = {
  readonly name: string
  /** Open connections now. */
  readonly connections: number
  /** Bytes given to clients. */
  readonly readBytes: number
  /** The highest byte any client has read, plus one; the disk's size when some client read its end. */
  readonly readTo: number
  /** Why a client got an error instead of bytes: the first one. */
  readonly readError: AgentError | undefined
  readonly readErrors: number
  /** Milliseconds of the clock's monotonic time when a client last asked for something; undefined before the first. */
  readonly lastUsedMs: number | undefined
}

/** One export as all connections share it. */
export class ServedExport {
  readonly name: string
  readonly description: string
  readonly size: number
  readonly #source: BlockSource
  readonly #clock: Clock
  #connections = 0
  #readBytes = 0
  #readTo = 0
  #readError: AgentError | undefined
  #readErrors = 0
  #lastUsedMs: number | undefined

  constructor({ name, description, source }: NbdExport, clock: Clock) {
    this.name = name
    this.description = description ?? ''
    this.size = source.size
    this.#source = source
    this.#clock = clock
  }

  get activity(): ExportActivity {
    return {
      name: this.name,
      connections: this.#connections,
      readBytes: this.#readBytes,
      readTo: this.#readTo,
      readError: this.#readError,
      readErrors: this.#readErrors,
      lastUsedMs: this.#lastUsedMs,
    }
  }

  /** Counts a connection until it is disposed. */
  connect(): Disposable {
    this.#connections++
    return {
      [Symbol.dispose]: () => {
        this.#connections--
      },
    }
  }

  async read(offset: number, into: Uint8Array, options: Abortable): Promise<void> {
    await this.#noting(options, () => this.#source.read(offset, into, options))
    this.#readBytes += into.length
    this.#readTo = Math.max(this.#readTo, offset + into.length)
  }

  /** The first extents of `range`, neighbours joined, at most `limit`; they may end before it does. */
  extents(range: Range, limit: number, options: Abortable): Promise<readonly Extent[]> {
    return this.#noting(options, async () => {
      const found: { offset: number; length: number; kind: Extent['kind'] }[] = []
      for await (const { kind, ...extent } of this.#source.extents(range, options)) {
        const last = found.at(-1)
        const same = last !== undefined && (last.kind === 'data') === (kind === 'data')
        if (same) last.length = rangeEnd(extent) - last.offset
        else if (found.length === limit) break
        else found.push({ ...extent, kind })
      }
      return found
    })
  }

  /** Remembers the first failure; one that only follows the client's going is none. */
  async #noting<T>(options: Abortable, work: () => Promise<T>): Promise<T> {
    this.#lastUsedMs = this.#clock.monotonicMs()
    try {
      return await work()
    } catch (error) {
      if (options.signal?.aborted !== true) {
        this.#readErrors++
        this.#readError ??= toAgentError(error)
      }
      throw error
    }
  }
}
