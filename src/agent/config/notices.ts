import { z } from 'zod'
import { AgentError } from '../../core/index.ts'
import { FACILITIES, type Facility, NOTICE_EVENTS, type NoticeEvent } from '../../notices/index.ts'
import { createCronMoments } from '../../schedule/index.ts'
import { type FileOf, type Given, localIf } from './given.ts'
import { checkedBy, listOf } from './list-of.ts'
import { timeZone } from './job-schedule.ts'
import { duration } from './quantity.ts'
import { jobName } from './repositories.ts'
import type { SecretSource } from './secret-source.ts'

/** A way to tell somebody, by the name that jobs say; docs/notices.md. */
export type NoticeConfig = {
  readonly name: string
  /** What of the jobs that name it is told; of a digest nothing, since it tells all. */
  readonly on: readonly NoticeEvent[]
  /** One report at moments instead of a notice after each run. */
  readonly digest: { readonly cron: readonly string[]; readonly timeZone: string } | undefined
  /** In which moments are shown. */
  readonly timeZone: string
  /** What happens within this time is told together, ms. */
  readonly gatherMs: number
  readonly timeoutMs: number
  readonly caFile: string | undefined
  readonly to: MailTarget | WebhookTarget | SyslogTarget
}

export type MailTarget = {
  readonly kind: 'mail'
  readonly host: string
  readonly port: number
  readonly security: 'starttls' | 'tls' | 'none'
  readonly from: string
  readonly to: readonly string[]
  readonly login: { readonly user: string; readonly password: SecretSource } | undefined
}
/** Who has the address of a chat's webhook may write there: it is a secret like a password, and never stands in vcb.yaml. */
export type WebhookTarget = {
  readonly kind: 'webhook'
  readonly url: SecretSource
  readonly key: SecretSource | undefined
}
/** Without the certificates of TLS. */
export type SyslogAddress =
  | { readonly over: 'udp'; readonly host: string; readonly port: number }
  | { readonly over: 'tcp'; readonly host: string; readonly port: number }
  | { readonly over: 'tls'; readonly host: string; readonly port: number }
  | { readonly over: 'unix'; readonly path: string }
export type SyslogTarget = {
  readonly kind: 'syslog'
  readonly server: SyslogAddress
  readonly facility: Facility
}

export type NoticesConfig = {
  readonly notices: readonly NoticeConfig[]
  /** A VM without an RPO whose last good point is older than this is told as not protected, ms. */
  readonly noRpoAgeMs: number
}

/** `alice@example.com`, or `Backup of the office <backup@example.com>`: no second address, and no second line of a header. */
const address = z
  .string()
  .regex(/^(?:[^<>@,;"\p{Cc}]{0,100}<[^\s<>@,;"]{1,64}@[^\s<>@,;"]{1,255}>|[^\s<>@,;"]{1,64}@[^\s<>@,;"]{1,255})$/u, {
    error: 'it is no mail address; write alice@example.com, or Alice <alice@example.com>',
  })

const mailServer = checkedBy(mailServerOf)
const syslogServer = checkedBy(syslogServerOf)

const common = {
  on: listOf(z.enum(NOTICE_EVENTS)).optional(),
  digest: listOf(checkedBy((text) => createCronMoments([text], 'UTC'))).optional(),
  timeZone: timeZone.optional(),
  gather: duration(0, 24 * 3_600_000).optional(),
  timeout: duration(100, 10 * 60_000).optional(),
  caFile: z.string().min(1).optional(),
} as const

const mail = z.strictObject({
  server: mailServer,
  from: address,
  to: listOf(address).refine((list) => list.length > 0, { error: 'it names nobody' }),
  user: z.string().min(1).max(255).optional(),
  passwordFile: z.string().optional(),
  passwordEnv: z.string().optional(),
})

const webhook = z.strictObject({
  urlFile: z.string().optional(),
  urlEnv: z.string().optional(),
  secretFile: z.string().optional(),
  secretEnv: z.string().optional(),
})

const syslog = z.strictObject({
  server: syslogServer,
  facility: z.enum(Object.keys(FACILITIES) as [Facility, ...Facility[]]).optional(),
})

const notice = z
  .strictObject({ ...common, mail: mail.optional(), webhook: webhook.optional(), syslog: syslog.optional() })
  .refine(({ mail: m, webhook: w, syslog: s }) => [m, w, s].filter((each) => each !== undefined).length === 1, {
    error: 'it is one of mail, webhook and syslog',
  })
  .refine(({ digest, on }) => digest === undefined || on === undefined, { error: 'a digest tells everything; it has no on' })
  .refine(({ mail: m }) => m === undefined || (m.user === undefined) === (m.passwordFile === undefined && m.passwordEnv === undefined), {
    error: 'user and passwordFile (or passwordEnv) belong together',
    path: ['mail'],
  })
  .refine(({ mail: m }) => m?.user === undefined || mailServerOf(m.server).security !== 'none', {
    error: 'a login is never sent over a connection that is not encrypted; use smtp:// (STARTTLS) or smtps://',
    path: ['mail', 'server'],
  })
  .refine(({ webhook: w }) => w === undefined || (w.urlFile === undefined) !== (w.urlEnv === undefined), {
    error: 'it has one of urlFile and urlEnv: its address is a secret',
    path: ['webhook'],
  })

export const noticesKeys = {
  notices: z.record(jobName, notice).optional(),
  /** Beside RPOs of jobs. */
  reportAge: duration(3_600_000, 366 * 86_400_000).optional(),
} as const

const DEFAULT_ON: readonly NoticeEvent[] = ['failure', 'warning', 'missedRpo']
const DEFAULT_GATHER_MS = 60_000
const DEFAULT_TIMEOUT_MS = 30_000
const DEFAULT_AGE_MS = 8 * 86_400_000

export function noticesOf({ notices, reportAge }: FileOf<typeof noticesKeys>, given: Given): NoticesConfig {
  const zone = Temporal.Now.timeZoneId()
  return {
    noRpoAgeMs: reportAge ?? DEFAULT_AGE_MS,
    notices: Object.freeze(
      Object.entries(notices ?? {}).map(([name, file]): NoticeConfig => {
        const inZone = file.timeZone ?? zone
        return Object.freeze({
          name,
          on: file.digest === undefined ? (file.on ?? DEFAULT_ON) : [],
          digest: file.digest === undefined ? undefined : { cron: file.digest, timeZone: inZone },
          timeZone: inZone,
          gatherMs: file.gather ?? (file.syslog === undefined ? DEFAULT_GATHER_MS : 0),
          timeoutMs: file.timeout ?? DEFAULT_TIMEOUT_MS,
          caFile: localIf(given, file.caFile),
          to: targetOf(file, given),
        })
      }),
    ),
  }
}

/** Where a notice goes, without what nobody may see. */
export function targetText(to: NoticeConfig['to']): string {
  if (to.kind === 'mail') return `mail to ${to.to.join(', ')}`
  if (to.kind === 'webhook') return `webhook ${secretPlace(to.url)}`
  return `syslog ${to.server.over === 'unix' ? to.server.path : `${to.server.over}://${to.server.host}:${to.server.port}`}`
}

const secretPlace = ({ env, file }: SecretSource): string =>
  env === undefined ? `named in ${file ?? 'nothing'}` : `named in the variable ${env}`

function targetOf(file: z.output<typeof notice>, given: Given): NoticeConfig['to'] {
  const secret = (path: string | undefined, variable: string | undefined): SecretSource =>
    variable === undefined ? { file: localIf(given, path) } : { env: variable, value: given.environment[variable] }
  if (file.mail !== undefined) {
    const { server, from, to, user, passwordFile, passwordEnv } = file.mail
    const login = user === undefined ? undefined : { user, password: secret(passwordFile, passwordEnv) }
    return { kind: 'mail', ...mailServerOf(server), from, to, login }
  }
  if (file.webhook !== undefined) {
    const { urlFile, urlEnv, secretFile, secretEnv } = file.webhook
    const signed = secretFile !== undefined || secretEnv !== undefined
    return {
      kind: 'webhook',
      url: secret(urlFile, urlEnv),
      key: signed ? secret(secretFile, secretEnv) : undefined,
    }
  }
  const { server = '', facility = 'daemon' } = file.syslog ?? {}
  return { kind: 'syslog', server: syslogServerOf(server), facility }
}

const MAIL_SCHEMES: Readonly<Record<string, { readonly security: MailTarget['security']; readonly port: number }>> = {
  'smtp:': { security: 'starttls', port: 587 },
  'smtps:': { security: 'tls', port: 465 },
  'smtp+plain:': { security: 'none', port: 25 },
}

function mailServerOf(text: string): Pick<MailTarget, 'host' | 'port' | 'security'> {
  const { protocol, host, port } = serverOf(text, 'smtp://mail.example.com:587, smtps://mail.example.com, or smtp+plain://localhost:25')
  const scheme = MAIL_SCHEMES[protocol]
  if (scheme === undefined) throw wrong(text, 'smtp:// (STARTTLS), smtps:// (TLS) or smtp+plain:// (not encrypted)')
  return { host, port: port ?? scheme.port, security: scheme.security }
}

const SYSLOG_PORTS: Readonly<Record<string, number>> = { 'udp:': 514, 'tcp:': 601, 'tls:': 6514 }

function syslogServerOf(text: string): SyslogAddress {
  if (text.startsWith('unix:/')) return { over: 'unix', path: text.slice('unix:'.length).replace(/^\/\/(?=\/)/u, '') }
  const { protocol, host, port } = serverOf(
    text,
    'udp://log.example.com, tcp://log.example.com:601, tls://log.example.com, or unix:/dev/log',
  )
  const usual = SYSLOG_PORTS[protocol]
  if (usual === undefined) throw wrong(text, 'udp://, tcp://, tls:// or unix:/')
  return { over: protocol.slice(0, -1) as 'udp' | 'tcp' | 'tls', host, port: port ?? usual }
}

function serverOf(text: string, example: string): { readonly protocol: string; readonly host: string; readonly port: number | undefined } {
  const url = URL.parse(text)
  const plain =
    url !== null && url.username === '' && url.password === '' && /^\/?$/u.test(url.pathname) && url.search === '' && url.hash === ''
  if (url === null || url.hostname === '' || !plain) throw wrong(text, example)
  return { protocol: url.protocol, host: url.hostname.replace(/^\[(.*)\]$/u, '$1'), port: url.port === '' ? undefined : Number(url.port) }
}

const wrong = (text: string, example: string): AgentError =>
  new AgentError('USAGE', `"${text.replace(/\/\/[^@/]*@/u, '//***@')}" is no server.`, { next: `Write ${example}.` })
