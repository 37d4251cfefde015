import { type Abortable, AgentError, type Extent, type Log, MIB, type Range, rangeEnd, throwIfAborted } from '../core/index.ts'
import type { StreamGrain } from '../disk/index.ts'
import { GrainWindow } from './grain-window.ts'
import type { OpenDisk } from './transport.ts'

/** Bytes of grains kept: readers have a few dozen blocks of 1 MiB under way and finish them in nearly the order of the disk. */
const WINDOW = 32 * MIB
/** The map of allocated areas looks ahead of the reads by so many bytes of data at most; what lies further on is called data unseen. */
const LOOK_AHEAD = 16 * MIB
/** How often one disk's stream is begun again for a read of what has gone by. */
const MOST_RESTARTS = 8

/** A disk that comes as grains in ascending order, once. */
export type GrainStream = AsyncDisposable & {
  /** The next grain; undefined when the stream is at its end and proven whole. */
  next(): Promise<StreamGrain | undefined>
}

export type StreamSourceOptions = {
  readonly size: number
  readonly label: string
  readonly log: Log
  /** Begins the stream again; only when the one before was disposed. */
  readonly restart: () => Promise<GrainStream>
  /** Called once, when the source was disposed and its stream with it. */
  readonly closed?: (() => void | Promise<void>) | undefined
}

/**
 * A disk that goes by once as a source for reads in nearly ascending order: reads wait until the stream has come to them, those of the last 32 MiB of
 * data are served from memory, and one of what has gone by further back begins the stream again and skips. Owns the stream.
 */
export function streamSource(stream: GrainStream, options: StreamSourceOptions): OpenDisk {
  return new StreamSource(stream, options)
}

/** Somebody waits until the stream has come to `end`; `into` is filled from `at` on as it goes by. */
type Waiter = {
  at: number
  readonly end: number
  readonly start: number
  readonly into: Uint8Array | undefined
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

class StreamSource implements OpenDisk {
  readonly size: number
  readonly #options: StreamSourceOptions
  readonly #window = new GrainWindow(WINDOW)
  readonly #waiters = new Set<Waiter>()
  #stream: GrainStream | undefined
  #pumping: Promise<void> | undefined
  /** End of the furthest read asked for. */
  #readTo = 0
  #restarts = 0
  #proven = false
  #failure: unknown

  constructor(stream: GrainStream, options: StreamSourceOptions) {
    this.#stream = stream
    this.#options = options
    this.size = options.size
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    this.#inside(offset, into.length)
    if (into.length === 0) return
    this.#readTo = Math.max(this.#readTo, offset + into.length)
    await this.#reach(offset, offset + into.length, into, options)
  }

  async *extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    throwIfAborted(options)
    this.#inside(range.offset, range.length)
    for (let at = range.offset; at < rangeEnd(range); ) {
      throwIfAborted(options)
      const known = at >= this.#window.floor && at < this.#window.frontier
      const piece = known ? this.#window.at(at, rangeEnd(range)) : undefined
      if (piece !== undefined) {
        yield piece
        at = rangeEnd(piece)
      } else if (at < this.#window.floor || this.#window.bytesAbove(this.#readTo) >= LOOK_AHEAD) {
        const next = Math.min(rangeEnd(range), (Math.floor(at / MIB) + 1) * MIB)
        yield { offset: at, length: next - at, kind: 'data' }
        at = next
      } else {
        await this.#reach(at, at + 1, undefined, options)
      }
    }
  }

  async finish(options?: Abortable): Promise<void> {
    if (!this.#proven) await this.#reach(this.size, this.size, undefined, options, true)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new AgentError('CANCELED', `The disk ${this.#options.label} was closed.`))
    try {
      await this.#endStream()
      await this.#pumping
    } finally {
      await this.#options.closed?.()
    }
  }

  #inside(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new AgentError('USAGE', `${length} bytes at ${offset} are outside a disk of ${this.size} bytes.`)
  }

  /** Resolves when the stream has come to `end` (with `proven`: to its own end), having filled `into`. */
  #reach(start: number, end: number, into: Uint8Array | undefined, options?: Abortable, proven = false): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter: Waiter = { at: start, start, end: proven ? Number.POSITIVE_INFINITY : end, into, resolve, reject }
    if (start >= this.#window.floor) this.#serve(waiter)
    if (waiter.at >= waiter.end) return Promise.resolve()
    const { signal } = options ?? {}
    // A waiter that is gone is not written to any more: its buffer is the caller's again.
    const onAbort = (): void => {
      this.#waiters.delete(waiter)
      try {
        throwIfAborted(options)
      } catch (error) {
        reject(error)
      }
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#waiters.add(waiter)
    this.#pumping ??= this.#pump()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#pumping = undefined
      })
    return promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  #serve(waiter: Waiter): void {
    const to = Math.min(waiter.end, this.#window.frontier)
    if (to <= waiter.at) return
    if (waiter.into !== undefined) this.#window.copy(waiter.at, waiter.into.subarray(waiter.at - waiter.start, to - waiter.start))
    waiter.at = to
  }

  /** Takes grain after grain while somebody waits. The only place that asks the stream. */
  async #pump(): Promise<void> {
    try {
      while (this.#waiters.size > 0) {
        if (this.#wantsWhatIsGone()) await this.#restart()
        const grain = await this.#stream?.next()
        if (this.#failure !== undefined) break
        if (grain === undefined) this.#proven = true
        else if (grain.offset < this.#window.frontier) throw this.#outOfOrder(grain.offset)
        this.#window.advance(grain === undefined ? this.size : grain.offset + grain.data.length, grain)
        for (const waiter of this.#waiters) {
          this.#serve(waiter)
          if (waiter.at < waiter.end && !(this.#proven && waiter.end === Number.POSITIVE_INFINITY)) continue
          this.#waiters.delete(waiter)
          waiter.resolve()
        }
        this.#window.trim()
        if (grain === undefined) await this.#endStream()
      }
      // Closed while the stream began again.
      if (this.#failure !== undefined) await this.#endStream()
    } catch (error) {
      // What the stream holds is given back before anybody hears of it: whoever opens it again would find it taken.
      await this.#endStream()
      this.#fail(error)
    }
  }

  #wantsWhatIsGone(): boolean {
    for (const waiter of this.#waiters) if (waiter.at < this.#window.floor) return true
    return false
  }

  async #restart(): Promise<void> {
    const { label, log, restart } = this.#options
    if (this.#restarts >= MOST_RESTARTS) {
      throw new AgentError('UNAVAILABLE', `${label} is read in an order in which a stream cannot be followed.`, {
        subject: label,
        retry: 'never',
        next: 'Read this disk another way (--transport nbdssl).',
      })
    }
    this.#restarts++
    log.warn('a read of what has gone by begins the stream of the disk again', { disk: label, restarts: this.#restarts })
    await this.#endStream()
    this.#window.clear()
    this.#stream = await restart()
  }

  #outOfOrder(offset: number): AgentError {
    const { label } = this.#options
    return new AgentError('UNAVAILABLE', `The stream of ${label} goes back to byte ${offset}.`, { subject: label, retry: 'never' })
  }

  async #endStream(): Promise<void> {
    const stream = this.#stream
    this.#stream = undefined
    await stream?.[Symbol.asyncDispose]()
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    for (const waiter of this.#waiters) waiter.reject(this.#failure)
    this.#waiters.clear()
  }
}
