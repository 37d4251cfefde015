import { type Abortable, AgentError, type Clock, runProgram } from '../core/index.ts'
import type { NoticeChannel } from './channel.ts'
import type { Notice } from './notice.ts'
import { sendSyslog, serverName, type SyslogServer } from './syslog-dial.ts'
import { FACILITIES, type Facility, parameter, severityNumber, syslogMessage, syslogParts } from './syslog-message.ts'

export type SyslogSettings = {
  readonly server: SyslogServer
  readonly facility: Facility
  /** This machine's name. */
  readonly host: string
  readonly pid: number
  readonly patienceMs: number
  readonly clock: Clock
}

/** What every receiver should take in one datagram (RFC 5426, section 3.2), and what those of a connection take. Bytes. */
const DATAGRAM = 2048
const FRAME = 8192

/** RFC 5424 over UDP, TCP, TLS, or the socket of this machine's own daemon. One message a notice. */
export class SyslogChannel implements NoticeChannel {
  readonly #settings: SyslogSettings

  constructor(settings: SyslogSettings) {
    this.#settings = settings
  }

  async send(notice: Notice, { signal }: Abortable): Promise<void> {
    const { server, facility, host, pid, patienceMs, clock } = this.#settings
    if (server.over === 'unix') return this.#local(server.path, notice, { signal })
    const mostBytes = server.over === 'udp' ? DATAGRAM : FRAME
    await sendSyslog(server, syslogMessage(notice, { facility, host, pid, mostBytes }), { clock, patienceMs, signal })
  }

  /** Node has no sockets of datagrams in the file system; `logger` of util-linux is on every system that has such a daemon. */
  async #local(path: string, notice: Notice, { signal }: Abortable): Promise<void> {
    const { facility, pid, patienceMs, clock } = this.#settings
    const { msgid, data, text } = syslogParts(notice)
    const severity = severityNumber(notice)
    const argv = [
      '--socket-errors=on',
      `--socket=${path}`,
      `--priority=${localFacility(facility)}.${SEVERITY_NAMES[severity] ?? 'info'}`,
      '--tag=vcb',
      `--id=${pid}`,
      '--rfc5424=notq',
      `--size=${FRAME}`,
      `--msgid=${msgid}`,
      '--sd-id=vcb@32473',
      ...data.map(([name, value]) => `--sd-param=${name}="${parameter(value)}"`),
      '--',
      Array.from(text)
        .slice(0, FRAME / 4)
        .join(''),
    ]
    const { exit, complaint, late } = await runProgram('logger', argv, { clock, patienceMs, signal })
    if (exit === 0) return
    throw new AgentError(
      'UNAVAILABLE',
      `The syslog socket ${serverName({ over: 'unix', path })} took no message: ${late ? 'logger hung' : complaint}.`,
      {
        subject: path,
      },
    )
  }
}

const SEVERITY_NAMES: Readonly<Record<number, string>> = { 3: 'err', 4: 'warning', 6: 'info' }

/** `logger` lets nobody speak for the kernel. */
const localFacility = (facility: Facility): Facility => (FACILITIES[facility] === 0 ? 'daemon' : facility)
