import { Socket } from 'node:net'
import { type Abortable, AgentError, type Clock, effect, type Secret, throwIfAborted } from '../core/index.ts'
import type { NoticeChannel } from './channel.ts'
import { mailMessage } from './mail-message.ts'
import type { Notice } from './notice.ts'
import { saidBy } from './said.ts'

export type MailSettings = {
  readonly host: string
  readonly port: number
  /** `starttls`: nothing is sent, the login least of all, before the connection is encrypted; `tls`: it is from the start; `none`: it never is, and there is no login. */
  readonly security: 'starttls' | 'tls' | 'none'
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca: (() => Promise<string>) | undefined
  readonly login: { readonly user: string; readonly password: () => Promise<Secret> } | undefined
  readonly from: string
  readonly to: readonly string[]
  /** Of the connection, the greeting, and each answer, ms; ten times this for all of it. */
  readonly patienceMs: number
  readonly clock: Clock
}

/** A server that answers each command just in time is given up after so many times the patience. */
const PATIENCES = 10

/** Mail as text and HTML over SMTP (RFC 5321, STARTTLS of RFC 3207); the certificate is always verified. */
export class MailChannel implements NoticeChannel {
  readonly #settings: MailSettings

  constructor(settings: MailSettings) {
    this.#settings = settings
  }

  async send(notice: Notice, { signal }: Abortable): Promise<void> {
    const { host, port, security, ca, login, patienceMs, clock } = this.#settings
    throwIfAborted({ signal })
    const { createTransport } = await import('nodemailer')
    const password = login === undefined ? '' : (await login.password()).reveal()
    const socket = new Socket()
    const transport = createTransport({
      host,
      port,
      secure: security === 'tls',
      requireTLS: security === 'starttls',
      ignoreTLS: security === 'none',
      tls: { minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca: await ca() }) },
      ...(login === undefined ? {} : { auth: { user: login.user, pass: password } }),
      connectionTimeout: patienceMs,
      greetingTimeout: patienceMs,
      socketTimeout: patienceMs,
      dnsTimeout: patienceMs,
      // Ours, so that it can be ended: the library ends none of a mail under way.
      getSocket: (_, callback) => {
        const failed = (error: Error): void => callback(error, undefined)
        socket.once('error', failed)
        socket.setTimeout(patienceMs, () => socket.destroy(new Error(`no answer within ${patienceMs / 1000} s`)))
        socket.connect({ host, port }, () => {
          socket.off('error', failed).setTimeout(0)
          callback(null, { connection: socket })
        })
      },
      disableFileAccess: true,
      disableUrlAccess: true,
    })
    const done = new AbortController()
    clock.sleep(patienceMs * PATIENCES, { signal: done.signal }).then(
      () => socket.destroy(new Error(`it did not take the mail within ${(patienceMs * PATIENCES) / 1000} s`)),
      () => undefined, // it ended in time
    )
    const stop = (): void => void socket.destroy(new AgentError('CANCELED', 'The mail was given up.'))
    signal?.addEventListener('abort', stop, { once: true })
    try {
      await effect({ kind: 'call', what: 'SMTP message', on: `${host}:${port}` }, () =>
        transport.sendMail(mailMessage(notice, this.#settings)),
      )
    } catch (error) {
      throwIfAborted({ signal })
      throw smtpError(error, `${host}:${port}`, login === undefined ? [] : [password, `\0${login.user}\0${password}`])
    } finally {
      done.abort()
      signal?.removeEventListener('abort', stop)
      transport.close()
      socket.destroy()
    }
  }
}

/** `EAUTH`, `ETLS`, `EENVELOPE`, … of nodemailer. Its message repeats what the server said, and that may be a command of ours. */
function smtpError(thrown: unknown, server: string, secrets: readonly string[]): AgentError {
  const { code = '', responseCode, message } = thrown as { code?: string; responseCode?: number; message?: string }
  const told = saidBy(message ?? String(thrown), secrets)
  // The error itself holds the whole answer.
  const error = told === undefined ? undefined : thrown
  const said = (told ?? `${code} ${responseCode ?? ''}`).replace(/[.\s]+$/u, '')
  if (code === 'EAUTH' || code === 'ENOAUTH' || code === 'EOAUTH2')
    return new AgentError('AUTH', `The mail server ${server} refused the login: ${said}.`, {
      subject: server,
      cause: error,
      next: 'Check user and password of this notice in vcb.yaml.',
    })
  if (code === 'ETLS' || /certificate|self.signed|issuer|altname|STARTTLS/iu.test(`${code} ${said}`))
    return new AgentError('AUTH', `The mail server ${server} cannot be trusted: ${said}.`, {
      subject: server,
      cause: error,
      next: 'Name the certificate of its authority in caFile, or the server by the name in its certificate.',
    })
  if (code === 'EENVELOPE' || (responseCode !== undefined && responseCode >= 500))
    return new AgentError('CONFIG', `The mail server ${server} took no mail: ${said}.`, {
      subject: server,
      cause: error,
      next: 'Check sender and recipients of this notice in vcb.yaml.',
    })
  return new AgentError('UNAVAILABLE', `The mail server ${server} could not be reached: ${said}.`, { subject: server, cause: error })
}
