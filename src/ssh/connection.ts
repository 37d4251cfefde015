import type { Socket } from 'node:net'
import PQueue from 'p-queue'
import type { Client } from 'ssh2'
import { type Abortable, AgentError, type Effect, effect, throwIfAborted } from '../core/index.ts'
import { dialSsh } from './dial.ts'
import { shellLine } from './shell-word.ts'
import { SshChannel } from './ssh-channel.ts'
import { connectionLost, sshError } from './ssh-error.ts'
import type { SshDeps, SshHost } from './ssh-host.ts'

/** sshd allows one connection ten by default (MaxSessions), ESXi's too; a host that allows fewer is believed at the first refusal. */
const SESSIONS = 8
/** sshd counts a session for a moment longer than its end is told. */
const OPEN_TRIES = 6
const OPEN_PAUSE_MS = 20
/** Commands answer within this unless the caller says otherwise, ms. */
const COMMAND_MS = 60_000
/** How long a host may take to say goodbye, ms. */
const CLOSE_MS = 2_000
/** Most that a command's answer may have. Bytes. */
const ANSWER_BYTES = 1024 * 1024

export type CommandResult = { readonly status: number; readonly stdout: string; readonly stderr: string }

export type CommandOptions = Abortable & {
  readonly limitMs?: number | undefined
  /** Set for a command that changes something on the host: it passes the seam of effects. */
  readonly changes?: Effect | undefined
}

/** One logged-in connection to a host's shell; several sessions beside each other. Disposal ends it and everything on it. */
export class SshConnection implements AsyncDisposable {
  readonly host: SshHost
  readonly deps: SshDeps
  readonly #client: Client
  readonly #socket: Socket
  readonly #sessions = new PQueue({ concurrency: SESSIONS })
  /** Sessions the host has open for us; with those it was asked for. */
  #open = 0
  #asked = 0
  readonly #lost = new AbortController()

  private constructor(host: SshHost, deps: SshDeps, { client, socket }: { readonly client: Client; readonly socket: Socket }) {
    this.host = host
    this.deps = deps
    this.#client = client
    this.#socket = socket
    client.on('error', (error) => this.#end(sshError(host.name, error)))
    client.on('close', () => this.#end(connectionLost(host.name)))
  }

  /** See `dialSsh`. */
  static async open(host: SshHost, deps: SshDeps, options?: Abortable): Promise<SshConnection> {
    return new SshConnection(host, deps, await dialSsh(host, options))
  }

  /** Aborted, with the reason, once the connection is gone. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /**
   * Starts a command and returns its channel; waits while all sessions are in use. The caller disposes the channel.
   * UNAVAILABLE (connection gone, no session), CANCELED.
   */
  async start(words: readonly string[], options?: Abortable): Promise<SshChannel> {
    throwIfAborted(options)
    const line = shellLine(words)
    const free = Promise.withResolvers<void>()
    const turn = Promise.withResolvers<void>()
    const place = this.#sessions.add(() => {
      turn.resolve()
      return free.promise
    })
    // It ends when `free` does, which never rejects.
    place.catch(() => undefined)
    try {
      await raceSignals(turn.promise, options?.signal, this.lost)
      const opening = this.#opened(line, free.resolve)
      return await raceSignals(opening, options?.signal, this.lost).catch(async (error: unknown) => {
        // Should it still come, it is nobody's.
        void opening.then((channel) => channel[Symbol.asyncDispose]()).catch(() => undefined)
        throw error
      })
    } catch (error) {
      free.resolve()
      throw sshError(this.host.name, error)
    }
  }

  /** Runs a command to its end. Any exit status is a result; a command ended by a signal, too much output or the time limit are UNAVAILABLE. */
  async run(words: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const { changes } = options
    return changes === undefined ? this.#run(words, options) : effect(changes, () => this.#run(words, options))
  }

  async #run(words: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const limitMs = options.limitMs ?? COMMAND_MS
    const what = words.slice(0, 2).join(' ')
    await using channel = await this.start(words, options)
    const done = new AbortController()
    const late = this.deps.clock.sleep(limitMs, { signal: done.signal }).then(() => {
      throw new AgentError('UNAVAILABLE', `"${what}" did not end on ${this.host.name} within ${Math.round(limitMs / 1000)} s.`, {
        subject: this.host.name,
      })
    })
    // Cut short when the command has ended.
    late.catch(() => undefined)
    try {
      channel.end()
      return await raceSignals(Promise.race([channel.collect(ANSWER_BYTES, what), late]), options.signal)
    } finally {
      done.abort()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.lost.aborted) return
    const closed = new Promise<void>((resolve) => this.lost.addEventListener('abort', () => resolve(), { once: true }))
    this.#client.end()
    const done = new AbortController()
    const patience = this.deps.clock.sleep(CLOSE_MS, { signal: done.signal })
    await Promise.race([closed, patience.catch(() => undefined)]) // ended when the connection has closed
    done.abort()
    this.#socket.destroy()
    this.#end(connectionLost(this.host.name))
  }

  /** Whether a further session can be had at once and leaves one for somebody else. */
  get hasRoom(): boolean {
    return this.#sessions.size === 0 && this.#sessions.pending < this.#sessions.concurrency - 1
  }

  /** A refusal while others are open is the host's own limit: it is kept to from then on, and this one waits until another has ended. */
  async #opened(line: string, ended: () => void): Promise<SshChannel> {
    for (let tries = 1; ; ) {
      this.#asked++
      try {
        return await this.#exec(line, ended)
      } catch (error) {
        this.#asked--
        // `reason`: the host refused the channel, nothing was started.
        if (tries === OPEN_TRIES || this.lost.aborted || !(error instanceof Error && 'reason' in error)) throw error
        const most = Math.max(1, this.#open)
        if (most < this.#sessions.concurrency && this.#asked > 0) {
          this.#sessions.concurrency = most
          this.deps.log.info('the host allows fewer SSH sessions than usual', { host: this.host.name, sessions: most })
        }
        if (this.#asked === 0) tries++
        await this.deps.clock.sleep(OPEN_PAUSE_MS * 2 ** tries, { signal: this.lost })
      }
    }
  }

  /** The channel is listened to before this returns to the library: a short command's end comes in the same breath. */
  #exec(line: string, ended: () => void): Promise<SshChannel> {
    return new Promise((resolve, reject) => {
      this.#client.exec(line, (error, channel) => {
        if (error !== undefined) {
          reject(error)
          return
        }
        this.#open++
        channel.once('close', () => {
          this.#open--
          this.#asked--
          ended()
        })
        resolve(new SshChannel(this.host.name, channel, this.lost))
      })
    })
  }

  #end(reason: AgentError): void {
    if (!this.lost.aborted) this.#lost.abort(reason)
  }
}

/** `work`, unless a signal aborts first. */
async function raceSignals<T>(work: Promise<T>, ...signals: readonly (AbortSignal | undefined)[]): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const heard = signals.filter((signal) => signal !== undefined)
  const stop = (): void => reject(heard.find((signal) => signal.aborted)?.reason)
  if (heard.some((signal) => signal.aborted)) stop()
  for (const signal of heard) signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    for (const signal of heard) signal.removeEventListener('abort', stop)
  }
}
