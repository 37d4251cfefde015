import { AgentError, type Clock, type Log, runProgram, toAgentError } from '../core/index.ts'

/** What the service manager that started this process is told. Every call returns at once; what cannot be told is logged. */
export interface Supervisor extends AsyncDisposable {
  /** It works, or works again after a reload. */
  ready(status: string): void
  reloading(): void
  /** It was told to end and does. */
  stopping(status: string): void
  /** One line for `systemctl status`; told at most every STATUS_MS, the last one counts. */
  status(text: string): void
}

const STATUS_MS = 30_000
/** systemd-notify waits until it was heard; a manager that does not listen costs so long, ms. */
const PATIENCE_MS = 10_000
const MOST_STATUS = 200

export type SupervisorParts = {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly log: Log
}

/**
 * The protocol of sd_notify(3) where NOTIFY_SOCKET is set (a unit of Type=notify); nothing otherwise. A datagram to a Unix socket is what Node has no call for, so
 * `systemd-notify` of systemd itself sends it: the unit says NotifyAccess=all. With WatchdogSec it is told twice per interval that the event loop turns. Called once by
 * `vcb agent`; docs/service.md.
 */
export function createSupervisor(parts: SupervisorParts): Supervisor {
  const { NOTIFY_SOCKET: socket } = parts.environment
  return socket === undefined || socket === '' ? noSupervisor : new Systemd(socket, parts)
}

const nothing = (): void => undefined
/** Nobody started this process who would want to know. */
export const noSupervisor: Supervisor = Object.freeze({
  ready: nothing,
  reloading: nothing,
  stopping: nothing,
  status: nothing,
  [Symbol.asyncDispose]: () => Promise.resolve(),
})

class Systemd implements Supervisor {
  readonly #socket: string
  readonly #parts: SupervisorParts
  readonly #timers = new DisposableStack()
  #said: Promise<void> = Promise.resolve()
  #status = ''
  #toldStatus = ''
  #failed = false

  constructor(socket: string, parts: SupervisorParts) {
    this.#socket = socket
    this.#parts = parts
    const { clock, environment } = parts
    this.#timers.use(clock.every(STATUS_MS, () => this.#tellStatus(), nothing))
    const everyMs = watchdogMs(environment)
    if (everyMs !== undefined) this.#timers.use(clock.every(everyMs / 2, () => this.#tell('WATCHDOG=1'), nothing))
  }

  ready(status: string): void {
    void this.#tell('READY=1', this.#statusOf(status))
  }

  reloading(): void {
    void this.#tell('RELOADING=1')
  }

  stopping(status: string): void {
    void this.#tell('STOPPING=1', this.#statusOf(status))
  }

  status(text: string): void {
    this.#status = text
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timers[Symbol.dispose]()
    await this.#said
  }

  #statusOf(text: string): string {
    this.#status = text
    this.#toldStatus = text
    return `STATUS=${text.replaceAll(/\s+/g, ' ').slice(0, MOST_STATUS)}`
  }

  async #tellStatus(): Promise<void> {
    if (this.#status !== this.#toldStatus) await this.#tell(this.#statusOf(this.#status))
  }

  /** One after another: READY=1 must not overtake RELOADING=1. */
  #tell(...words: readonly string[]): Promise<void> {
    this.#said = this.#said.then(() => this.#send(words))
    return this.#said
  }

  async #send(words: readonly string[]): Promise<void> {
    const { clock, log } = this.#parts
    try {
      const { exit, complaint } = await runProgram('systemd-notify', words, {
        clock,
        patienceMs: PATIENCE_MS,
        environment: { PATH: '/usr/bin:/bin', NOTIFY_SOCKET: this.#socket },
      })
      if (exit !== 0) throw new AgentError('UNAVAILABLE', complaint === '' ? 'systemd-notify did not end well' : complaint)
      this.#failed = false
    } catch (error) {
      if (!this.#failed) log.error('systemd could not be told', { what: words.join(' '), error: toAgentError(error).message })
      this.#failed = true
    }
  }
}

/** Within which the manager wants to hear of this process, or of the one that started it as `vcb` starts its Node; ms. sd_watchdog_enabled(3). */
function watchdogMs({ WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid }: SupervisorParts['environment']): number | undefined {
  const ms = Number(microseconds) / 1000
  const ours = pid === undefined || [process.pid, process.ppid].includes(Number(pid))
  return ours && Number.isFinite(ms) && ms >= 1 ? ms : undefined
}
