import { type Abortable, AgentError, throwIfAborted, unlessAborted } from '../core/index.ts'
import type { ReadData } from './skeleton-bytes.ts'

/** A stored stream, from its first byte on. Disposal ends whoever sends it. */
export type OpenedStream = AsyncDisposable & {
  readonly chunks: AsyncIterator<Uint8Array>
  /** What went wrong at its sender; undefined when it says that all is well. Asked after the last chunk. */
  readonly failure: () => Promise<AgentError | undefined>
}

type OpenStream = (options?: Abortable) => Promise<OpenedStream>

/** One stream on its way: forwards only. */
class ForwardStream implements AsyncDisposable {
  position = 0
  readonly #name: string
  readonly #stream: OpenedStream
  #chunk: Uint8Array = new Uint8Array()

  constructor(name: string, stream: OpenedStream) {
    this.#name = name
    this.#stream = stream
  }

  /** Fills `into` from `offset` on, which lies at or behind the position. After any failure the stream is good for nothing. */
  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    for (const end = offset + into.length; this.position < end; ) {
      if (this.#chunk.length === 0) await this.#next(options)
      const part = this.#chunk.subarray(0, (this.position < offset ? offset : end) - this.position)
      if (this.position >= offset) into.set(part, this.position - offset)
      this.position += part.length
      this.#chunk = this.#chunk.subarray(part.length)
    }
  }

  async #next(options?: Abortable): Promise<void> {
    throwIfAborted(options)
    const { value, done } = await unlessAborted(this.#stream.chunks.next(), options?.signal)
    if (done === true) {
      const failed = await this.#stream.failure()
      if (failed !== undefined) throw failed
      throw new AgentError('INTEGRITY', `The stream of ${this.#name} ended at byte ${this.position}, before its archive did.`, {
        subject: this.#name,
      })
    }
    this.#chunk = value
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream[Symbol.asyncDispose]()
  }
}

/**
 * Streams of one stored archive that stand at different bytes. A stream cannot be turned back, so who reads further back gets a new one; disks read
 * one after the other share one, and disks read at the same time have one each.
 */
export class StreamPool implements AsyncDisposable {
  readonly #name: string
  readonly #open: OpenStream
  #idle: ForwardStream | undefined
  #closed = false

  constructor(name: string, open: OpenStream) {
    this.#name = name
    this.#open = open
  }

  /** For one disk: reads in the order asked for, one at a time. Disposed when the disk is. */
  lease(): AsyncDisposable & { readonly read: ReadData } {
    let own: ForwardStream | undefined
    let turn: Promise<unknown> = Promise.resolve()
    const read: ReadData = async (offset, into, options) => {
      if (own !== undefined && own.position > offset) {
        await own[Symbol.asyncDispose]()
        own = undefined
      }
      own ??= await this.#take(offset, options)
      try {
        await own.read(offset, into, options)
      } catch (error) {
        await own[Symbol.asyncDispose]()
        own = undefined
        throw error
      }
    }
    return {
      read: (offset, into, options) => {
        const work = turn.then(() => read(offset, into, options))
        turn = work.catch(() => undefined) // who asked is told
        return work
      },
      [Symbol.asyncDispose]: async () => {
        await turn
        if (own !== undefined) await this.#give(own)
        own = undefined
      },
    }
  }

  /** Nobody will ask for another one: what comes back is ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    const idle = this.#idle
    this.#idle = undefined
    await idle?.[Symbol.asyncDispose]()
  }

  async #take(offset: number, options?: Abortable): Promise<ForwardStream> {
    const idle = this.#idle
    if (idle === undefined || idle.position > offset) return new ForwardStream(this.#name, await this.#open(options))
    this.#idle = undefined
    return idle
  }

  async #give(stream: ForwardStream): Promise<void> {
    const before = this.#closed ? stream : this.#idle
    if (!this.#closed) this.#idle = stream
    await before?.[Symbol.asyncDispose]()
  }
}
