import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { AgentError, type Clock, fromErrno, isMissing, type Secret } from '../core/index.ts'
import { MailChannel, type NamedChannel, type NoticeChannel, SyslogChannel, type SyslogServer, WebhookChannel } from '../notices/index.ts'
import type { NoticeConfig } from './config/notices.ts'
import { readSecret, type SecretSource } from './config/secret-source.ts'

/** The channel that a section of `notices` describes. Secrets and certificates are read at each attempt, so that changed ones count at once. */
export function noticeChannel(config: NoticeConfig, { clock }: { readonly clock: Clock }): NamedChannel {
  return { name: config.name, gatherMs: config.gatherMs, timeZone: config.timeZone, channel: channelOf(config, clock) }
}

function channelOf({ name, to, timeoutMs: patienceMs, caFile }: NoticeConfig, clock: Clock): NoticeChannel {
  const ca = caFile === undefined ? undefined : () => certificatesOf(caFile)
  const secret = (source: SecretSource, what: string, key: string) => (): Promise<Secret> =>
    readSecret(source, `${what} of the notice ${name}`, `notices.${name}.${to.kind}.${key}`)
  if (to.kind === 'mail') {
    const login =
      to.login === undefined ? undefined : { user: to.login.user, password: secret(to.login.password, 'password', 'passwordFile') }
    return new MailChannel({ host: to.host, port: to.port, security: to.security, from: to.from, to: to.to, login, ca, patienceMs, clock })
  }
  if (to.kind === 'webhook') {
    const key = to.key === undefined ? undefined : secret(to.key, 'secret', 'secretFile')
    return new WebhookChannel({ url: secret(to.url, 'address', 'urlFile'), key, ca, patienceMs, clock })
  }
  const { server } = to
  const dialled: SyslogServer = server.over === 'tls' ? { ...server, over: server.over, ca } : server
  return new SyslogChannel({ server: dialled, facility: to.facility, host: hostname(), pid: process.pid, patienceMs, clock })
}

async function certificatesOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) throw new AgentError('CONFIG', `The certificate file ${path} does not exist.`, { subject: path, cause: error })
    throw fromErrno(error, path) ?? error
  }
}
