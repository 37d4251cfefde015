import { type Abortable, AgentError, type Clock, throwIfAborted, toAgentError } from '../core/index.ts'
import type { SshConnection } from './connection.ts'
import { isMissingProgram } from './host-error.ts'
import { HOST_PROGRAM } from './host-program.ts'
import type { SshChannel } from './ssh-channel.ts'
import { connectionLost } from './ssh-error.ts'

const HELLO = 'vcb-files 1'
/** Starting python3 on a busy host takes seconds. ms */
const START_MS = 60_000
/** Requests are out and not a byte has come for so long: the host, its storage or the network hangs. ms */
const STALL_MS = 60_000
const LOOK_MS = 5_000
const LINE_BYTES = 1024

/** What one request does with its answer: lines, each of which may announce raw bytes, until `line` says that it was the last. */
export interface Answer {
  /** A line of it. Returns how many raw bytes follow, or `end`. Throws INTEGRITY for a line that does not belong there. */
  line(tag: string, numbers: readonly number[]): number | 'end'
  /** The raw bytes, in pieces as they come; the piece is only lent. True when the answer is complete with it. */
  raw?(piece: Uint8Array): boolean
  /** The caller has given up: its memory is not touched any more; the rest is counted only. */
  drop?(): void
}

/** The answer was an error of the host: errno and its words. */
export class HostFault extends Error {
  readonly errno: number

  constructor(errno: number, text: string) {
    super(text)
    this.errno = errno
  }
}

type Waiting = { readonly answer: Answer; readonly resolve: () => void; readonly reject: (error: unknown) => void; readonly cost: number }

/**
 * One running host program and the requests on their way to it, answered in their order (docs/formats/ssh-host-files.md). A caller that gives up is
 * let go at once; what still comes for it is dropped. Anything unexpected on the line ends the lane and everything that waits.
 */
export class ProgramLane implements AsyncDisposable {
  readonly #host: string
  readonly #channel: SshChannel
  readonly #clock: Clock
  readonly #waiting: Waiting[] = []
  readonly #watch: Disposable
  /** Of the line that is coming in. */
  #line = Buffer.alloc(0)
  /** Raw bytes still to come. */
  #raw = 0
  #heard: number
  #greeted = false
  #over: AgentError | undefined
  /** Bytes asked for and not answered. */
  pending = 0
  /** Number of each file that was opened here. */
  readonly files = new Map<string, Promise<number>>()

  private constructor(host: string, channel: SshChannel, clock: Clock) {
    this.#host = host
    this.#channel = channel
    this.#clock = clock
    this.#heard = clock.monotonicMs()
    this.#watch = clock.every(
      LOOK_MS,
      () => this.#look(),
      () => undefined,
    )
    channel.onData((piece) => {
      try {
        this.#take(piece)
      } catch (error) {
        this.#end(toAgentError(error))
      }
    })
    // `ended` never rejects.
    void channel.ended().then(({ stderr }) =>
      this.#end(
        new AgentError('UNAVAILABLE', `The reading program on ${host} ended${stderr === '' ? '' : ` (${lastLine(stderr)})`}.`, {
          subject: host,
        }),
      ),
    )
  }

  /** Starts the program. NOT_FOUND, with the reason, when the host has no python3 that runs it; UNAVAILABLE, CANCELED. */
  static async start(connection: SshConnection, options?: Abortable): Promise<ProgramLane> {
    const { host, deps } = connection
    const channel = await connection.start(['python3', '-I', '-S', '-c', HOST_PROGRAM], options)
    const lane = new ProgramLane(host.name, channel, deps.clock)
    const done = new AbortController()
    const late = deps.clock.sleep(START_MS, { signal: done.signal }).then(() => {
      throw new AgentError('NOT_FOUND', `python3 on ${host.name} did not start within ${START_MS / 1000} s.`, { subject: host.name })
    })
    // Cut short when the program has answered.
    late.catch(() => undefined)
    try {
      await Promise.race([lane.#hello(options), late])
      return lane
    } catch (error) {
      await lane[Symbol.asyncDispose]()
      throwIfAborted(options)
      if (connection.lost.aborted) throw connection.lost.reason
      const { status, stderr } = await channel.ended()
      if (isMissingProgram(status)) throw new AgentError('NOT_FOUND', `${host.name} has no python3.`, { subject: host.name, cause: error })
      throw new AgentError(
        'NOT_FOUND',
        `python3 on ${host.name} does not run the reading program: ${lastLine(stderr) || toAgentError(error).message}`,
        {
          subject: host.name,
          cause: error,
        },
      )
    } finally {
      done.abort()
    }
  }

  get broken(): AgentError | undefined {
    return this.#over
  }

  /** Sends a request, with the bytes that belong to it, and waits for its whole answer. HostFault, UNAVAILABLE, INTEGRITY, CANCELED. */
  request(
    line: string,
    answer: Answer,
    options?: Abortable & { readonly body?: Uint8Array | undefined; readonly cost?: number | undefined },
  ): Promise<void> {
    try {
      throwIfAborted(options)
      if (this.#over !== undefined) throw this.#over
    } catch (error) {
      return Promise.reject(toAgentError(error))
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    if (this.#waiting.length === 0) this.#heard = this.#clock.monotonicMs()
    const waiting: Waiting = { answer, resolve, reject, cost: options?.cost ?? 0 }
    this.pending += waiting.cost
    this.#waiting.push(waiting)
    const give = (): void => {
      answer.drop?.()
      try {
        throwIfAborted(options)
      } catch (error) {
        reject(error)
      }
    }
    options?.signal?.addEventListener('abort', give, { once: true })
    const sent = options?.body === undefined ? Buffer.from(line) : Buffer.concat([Buffer.from(line), options.body])
    // Its failure is the lane's end, which every request hears of.
    this.#channel.write(sent).catch((error: unknown) => this.#end(toAgentError(error)))
    return promise.finally(() => options?.signal?.removeEventListener('abort', give))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(connectionLost(this.#host))
    this.#channel.end()
    await this.#channel[Symbol.asyncDispose]()
  }

  #hello(options?: Abortable): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const answer: Answer = { line: () => 'end' }
    this.#waiting.push({ answer, resolve, reject, cost: 0 })
    options?.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true })
    return promise
  }

  #take(piece: Buffer): void {
    this.#heard = this.#clock.monotonicMs()
    for (let at = 0; at < piece.length; ) {
      if (this.#raw > 0) {
        const part = piece.subarray(at, at + this.#raw)
        const [first] = this.#waiting
        this.#raw -= part.length
        at += part.length
        if (first?.answer.raw?.(part) === true) this.#next(first)
        continue
      }
      const newline = piece.indexOf(10, at)
      const part = piece.subarray(at, newline < 0 ? piece.length : newline)
      if (this.#line.length + part.length > LINE_BYTES) throw this.#nonsense('a line that does not end')
      this.#line = Buffer.concat([this.#line, part])
      at += part.length + 1
      if (newline < 0) return
      const line = this.#line.toString('latin1')
      this.#line = Buffer.alloc(0)
      this.#takeLine(line)
    }
  }

  #takeLine(line: string): void {
    const [first] = this.#waiting
    if (first === undefined) throw this.#nonsense('an answer that nobody asked for')
    if (!this.#greeted) {
      if (line !== HELLO) throw this.#nonsense(`the greeting ${JSON.stringify(line.slice(0, 80))}`)
      this.#greeted = true
      this.#next(first)
      return
    }
    const [tag = '', ...words] = line.split(' ')
    if (tag === 'e') {
      this.#waiting.shift()
      this.pending -= first.cost
      first.reject(new HostFault(Number(words[0] ?? 0), words.slice(1).join(' ')))
      return
    }
    const numbers = words.map(Number)
    if (!/^[a-z]$/.test(tag) || !numbers.every((each) => Number.isSafeInteger(each) && each >= 0))
      throw this.#nonsense(`the line ${JSON.stringify(line.slice(0, 80))}`)
    const more = first.answer.line(tag, numbers)
    if (more === 'end') this.#next(first)
    else this.#raw = more
  }

  #next(answered: Waiting): void {
    this.#waiting.shift()
    this.pending -= answered.cost
    answered.resolve()
  }

  #look(): void {
    if (this.#waiting.length === 0 || this.#clock.monotonicMs() - this.#heard < STALL_MS) return
    this.#end(
      new AgentError('UNAVAILABLE', `${this.#host} has sent nothing for ${STALL_MS / 1000} s while it was being read over SSH.`, {
        subject: this.#host,
      }),
    )
  }

  #end(reason: AgentError): void {
    if (this.#over !== undefined) return
    this.#over = reason
    this.#watch[Symbol.dispose]()
    for (const { answer, reject } of this.#waiting.splice(0)) {
      answer.drop?.()
      reject(reason)
    }
    this.pending = 0
    this.#channel[Symbol.asyncDispose]().catch(() => undefined) // closing only says goodbye; it cannot fail in a way that matters
  }

  #nonsense(what: string): AgentError {
    return new AgentError('UNAVAILABLE', `The reading program on ${this.#host} sent ${what}.`, { subject: this.#host })
  }
}

/** The last line says it: what is above is where in the program. */
const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.slice(0, 200) ?? ''
