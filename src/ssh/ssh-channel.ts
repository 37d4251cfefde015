import type { ClientChannel } from 'ssh2'
import { AgentError } from '../core/index.ts'
import { connectionLost } from './ssh-error.ts'

/** Of what a command says on its error output, so much is kept. Bytes. */
const STDERR_BYTES = 8 * 1024

/** How a command ended. `status` is undefined when it was killed or the connection went before it said so. */
export type CommandEnd = { readonly status: number | undefined; readonly signal: string | undefined; readonly stderr: string }

/** A running command: its input, its output piece by piece, its end. Bytes come only after `onData` was called, at the reader's pace. */
export class SshChannel implements AsyncDisposable {
  readonly #host: string
  readonly #channel: ClientChannel
  readonly #lost: AbortSignal
  readonly #closed = Promise.withResolvers<void>()
  #stderr = ''
  #status: number | undefined
  #signal: string | undefined

  constructor(host: string, channel: ClientChannel, lost: AbortSignal) {
    this.#host = host
    this.#channel = channel
    this.#lost = lost
    channel.stderr.on('data', (piece: Buffer) => {
      if (this.#stderr.length < STDERR_BYTES) this.#stderr += piece.toString('utf8').slice(0, STDERR_BYTES - this.#stderr.length)
    })
    channel.on('exit', (status: number | null, signal?: string) => {
      this.#status = status ?? undefined
      this.#signal = signal
    })
    channel.on('error', () => this.#closed.resolve())
    channel.on('close', () => this.#closed.resolve())
    if (lost.aborted) this.#closed.resolve()
    else lost.addEventListener('abort', () => this.#closed.resolve(), { once: true })
  }

  /** Every piece of output, in order. Called once. */
  onData(take: (piece: Buffer) => void): void {
    this.#channel.on('data', take)
  }

  /** Resolves when the bytes are handed over, at the other side's pace. UNAVAILABLE when the command has ended. */
  async write(bytes: Uint8Array): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const gone = (): void => reject(this.#gone())
    this.#channel.write(bytes, (error) => (error === undefined || error === null ? resolve() : reject(this.#gone())))
    // A command that ended takes no more input and does not say so.
    void this.#closed.promise.then(gone)
    await promise
  }

  /** No more input. */
  end(): void {
    this.#channel.end()
  }

  /** Resolves when the command has ended and all its output was given out, or the connection is gone. */
  async ended(): Promise<CommandEnd> {
    await this.#closed.promise
    return { status: this.#status, signal: this.#signal, stderr: this.#stderr }
  }

  /** The whole output of a short command. UNAVAILABLE: more than `most` bytes, killed, connection gone. */
  async collect(most: number, what: string): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
    const pieces: Buffer[] = []
    let size = 0
    this.onData((piece) => {
      size += piece.length
      if (size <= most) pieces.push(piece)
      else this.#channel.close()
    })
    const { status, signal, stderr } = await this.ended()
    if (size > most)
      throw new AgentError('UNAVAILABLE', `"${what}" on ${this.#host} said more than ${most} bytes.`, {
        subject: this.#host,
        retry: 'never',
      })
    if (status === undefined) {
      if (this.#lost.aborted || signal === undefined) throw this.#gone()
      throw new AgentError('UNAVAILABLE', `"${what}" was killed on ${this.#host} (${signal}).`, { subject: this.#host, retry: 'later' })
    }
    return { status, stdout: Buffer.concat(pieces).toString('utf8'), stderr }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#channel.removeAllListeners('data')
    this.#channel.resume()
    this.#channel.close()
    // Its end is the other side's to confirm; nothing waits for that but the session's place.
  }

  #gone(): AgentError {
    const reason: unknown = this.#lost.reason
    return reason instanceof AgentError ? reason : connectionLost(this.#host)
  }
}
