import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { type Abortable, AgentError, type Clock, effect, fromErrno, nodeTls, throwIfAborted } from '../core/index.ts'

export type SyslogServer =
  | { readonly over: 'udp'; readonly host: string; readonly port: number }
  | { readonly over: 'tcp'; readonly host: string; readonly port: number }
  | { readonly over: 'tls'; readonly host: string; readonly port: number; readonly ca: (() => Promise<string>) | undefined }
  | { readonly over: 'unix'; readonly path: string }

export const serverName = (server: SyslogServer): string =>
  server.over === 'unix' ? server.path : `${server.over}://${server.host}:${server.port}`

export type DialOptions = Abortable & { readonly clock: Clock; readonly patienceMs: number }

/**
 * Sends one message: as one datagram over UDP (RFC 5426), behind its length over TCP (RFC 6587, section 3.4.1) and TLS (RFC 5425). Syslog is not
 * acknowledged: resolved means that the kernel took it, and over a connection that the other side let it be closed. Errors: UNAVAILABLE, AUTH, CANCELED.
 */
export async function sendSyslog(
  server: Exclude<SyslogServer, { over: 'unix' }>,
  message: Buffer,
  { clock, patienceMs, signal }: DialOptions,
): Promise<void> {
  throwIfAborted({ signal })
  const name = serverName(server)
  const ca = server.over === 'tls' ? await server.ca?.() : undefined
  const done = new AbortController()
  const ended = Promise.withResolvers<never>()
  ended.promise.catch(() => undefined) // told by the race it ends, or by nobody
  clock.sleep(patienceMs, { signal: done.signal }).then(
    () => ended.reject(new AgentError('UNAVAILABLE', `The syslog server ${name} did not take a message within ${patienceMs / 1000} s.`)),
    () => undefined, // it ended in time
  )
  signal?.addEventListener('abort', () => ended.reject(signal.reason), { once: true, signal: done.signal })
  try {
    await effect({ kind: 'call', what: `syslog over ${server.over}`, on: name }, () =>
      server.over === 'udp' ? overUdp(server, message, ended.promise) : overStream(server, ca, message, ended.promise),
    )
  } catch (error) {
    throwIfAborted({ signal })
    throw syslogError(error, name)
  } finally {
    done.abort()
  }
}

async function overUdp({ host, port }: { host: string; port: number }, message: Buffer, ended: Promise<never>): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  try {
    const sent = new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.send(message, port, host, (error) => (error === null ? resolve() : reject(error)))
    })
    await Promise.race([sent, ended])
  } finally {
    socket.close()
  }
}

async function overStream(
  server: { over: 'tcp' | 'tls'; host: string; port: number },
  ca: string | undefined,
  message: Buffer,
  ended: Promise<never>,
): Promise<void> {
  const { over, host, port } = server
  const socket: Socket =
    over === 'tls'
      ? nodeTls().connect({
          host,
          port,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          minVersion: 'TLSv1.2',
          ...(ca === undefined ? {} : { ca }),
        })
      : connect({ host, port })
  try {
    const failed = new Promise<never>((_resolve, reject) => socket.once('error', reject))
    failed.catch(() => undefined) // told by the race below, or by nobody after success
    await Promise.race([once(socket, over === 'tls' ? 'secureConnect' : 'connect'), failed, ended])
    socket.end(Buffer.concat([Buffer.from(`${message.length} `), message]))
    socket.resume()
    await Promise.race([once(socket, 'close'), failed, ended])
  } finally {
    socket.destroy()
  }
}

function syslogError(error: unknown, name: string): AgentError {
  if (error instanceof AgentError) return error
  const { code, message } = error as { code?: string; message?: string }
  if (/CERT|SELF_SIGNED|ISSUER|ALTNAME|SSL|TLS/u.test(code ?? ''))
    return new AgentError('AUTH', `The syslog server ${name} cannot be trusted: ${message ?? ''}.`, {
      subject: name,
      cause: error,
      next: 'Name the certificate of its authority in caFile, or the server by the name in its certificate.',
    })
  const known = fromErrno(error, `the syslog server ${name}`)
  return known?.code === 'UNAVAILABLE'
    ? known
    : new AgentError('UNAVAILABLE', `The syslog server ${name} could not be reached (${code ?? message ?? String(error)}).`, {
        subject: name,
        cause: error,
      })
}
