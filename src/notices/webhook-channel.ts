import { createHmac } from 'node:crypto'
import type { Agent } from 'undici'
import { type Abortable, AgentError, type Clock, effect, type Secret, throwIfAborted } from '../core/index.ts'
import type { NoticeChannel } from './channel.ts'
import type { Notice } from './notice.ts'
import { shortened } from './report.ts'
import { MOST_ROWS, summaryOf } from './report-sections.ts'
import { saidBy } from './said.ts'

export type WebhookSettings = {
  /** May hold a secret in its path: only its origin is ever shown. */
  readonly url: () => Promise<Secret>
  /** The key that the body is signed with; undefined: it is not signed. */
  readonly key: (() => Promise<Secret>) | undefined
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca: (() => Promise<string>) | undefined
  /** Of the whole exchange, ms. */
  readonly patienceMs: number
  readonly clock: Clock
}

/** The signature: `sha256=` and the HMAC-SHA256 of the timestamp, a dot and the body, in hex. */
export const SIGNATURE_HEADER = 'x-vcb-signature'
/** Seconds since 1970, signed with the body so that an old message cannot be sent again. */
export const TIMESTAMP_HEADER = 'x-vcb-timestamp'
/** The id of the notice, the same at every attempt. */
export const DELIVERY_HEADER = 'x-vcb-delivery'

/** What is read of an answer, bytes; the rest is thrown away with the connection. */
const ANSWER = 4096

/** A JSON body by POST. A redirect is not followed, since it would send the report where nobody said. docs/notices.md describes the body. */
export class WebhookChannel implements NoticeChannel {
  readonly #settings: WebhookSettings

  constructor(settings: WebhookSettings) {
    this.#settings = settings
  }

  async send(notice: Notice, { signal }: Abortable): Promise<void> {
    const { url, key, ca, patienceMs, clock } = this.#settings
    throwIfAborted({ signal })
    const to = parsedUrl((await url()).reveal())
    const body = webhookBody(notice)
    const timestamp = String(Math.floor(clock.now().getTime() / 1000))
    const signing = key === undefined ? undefined : (await key()).reveal()
    const signature = signing === undefined ? undefined : signatureOf(signing, timestamp, body)
    const trusted = ca === undefined ? undefined : await ca()
    const { Agent: HttpAgent, request } = await import('undici')
    await using agent = disposable(new HttpAgent({ connect: trusted === undefined ? {} : { ca: trusted } }))
    const late = new AbortController()
    const done = new AbortController()
    clock.sleep(patienceMs, { signal: done.signal }).then(
      () => late.abort(),
      () => undefined, // it ended in time
    )
    let status: number
    let answer: string
    try {
      ;({ status, answer } = await effect({ kind: 'call', what: 'POST webhook', on: to.origin }, async () => {
        const response = await request(to, {
          method: 'POST',
          dispatcher: agent,
          signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]),
          headers: {
            'content-type': 'application/json',
            'user-agent': 'vcb-proxy',
            [TIMESTAMP_HEADER]: timestamp,
            [DELIVERY_HEADER]: notice.id,
            ...(signature === undefined ? {} : { [SIGNATURE_HEADER]: signature }),
            ...loginOf(to),
          },
          body,
        })
        return { status: response.statusCode, answer: await beginningOf(response.body) }
      }))
    } catch (error) {
      throwIfAborted({ signal })
      throw unreachable(error, to.origin, late.signal.aborted ? patienceMs : undefined)
    } finally {
      done.abort()
    }
    if (status < 200 || status > 299) {
      const secrets = [to.pathname + to.search, to.password, `${to.username}:${to.password}`, signing ?? '']
      throw refused(status, saidBy(answer, secrets), to.origin)
    }
  }
}

export const signatureOf = (key: string, timestamp: string, body: string): string =>
  `sha256=${createHmac('sha256', key).update(`${timestamp}.${body}`).digest('hex')}`

/** Version 1. Whatever is added later, these keys stay. */
export const webhookBody = ({ id, kind, at, severity, headline, report }: Notice): string =>
  JSON.stringify({ version: 1, id, kind, at, severity, headline, summary: summaryOf(report), report: shortened(report, MOST_ROWS) })

function parsedUrl(text: string): URL {
  const url = URL.parse(text.trim())
  if (url !== null && (url.protocol === 'https:' || url.protocol === 'http:')) return url
  throw new AgentError('CONFIG', 'The address of a webhook is no http or https URL.', {
    next: 'Correct what urlFile or urlEnv of this notice names.',
  })
}

/** HTTP Basic, for a login in the address. */
function loginOf({ username, password }: URL): { readonly authorization?: string } {
  if (username === '' && password === '') return {}
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { authorization: `Basic ${Buffer.from(login, 'utf8').toString('base64')}` }
}

const disposable = (agent: Agent): Agent & AsyncDisposable => Object.assign(agent, { [Symbol.asyncDispose]: () => agent.destroy() })

async function beginningOf(body: AsyncIterable<unknown>): Promise<string> {
  let text = ''
  for await (const chunk of body) {
    text += String(chunk)
    if (text.length >= ANSWER) break
  }
  return text.slice(0, ANSWER)
}

function refused(status: number, said: string | undefined, origin: string): AgentError {
  const told = `The webhook ${origin} answered ${status}${said === undefined ? '' : `: ${said}`}`
  if (status === 401 || status === 403)
    return new AgentError('AUTH', `${told}.`, { subject: origin, next: 'Check its address and its key.' })
  if (status === 429 || status >= 500) return new AgentError('UNAVAILABLE', `${told}.`, { subject: origin })
  const redirect = status >= 300 && status < 400
  return new AgentError('CONFIG', `${told}.`, {
    subject: origin,
    next: redirect ? 'A redirect is not followed; write the address it leads to.' : 'Check the address of this notice.',
  })
}

/** Undici names the address in none of its messages but the host. */
function unreachable(error: unknown, origin: string, lateAfterMs: number | undefined): AgentError {
  const { code, message } = error as { code?: string; message?: string }
  if (lateAfterMs !== undefined)
    return new AgentError('UNAVAILABLE', `The webhook ${origin} did not answer within ${lateAfterMs / 1000} s.`, { subject: origin })
  if (/CERT|SELF_SIGNED|ISSUER|ALTNAME|SSL|TLS/u.test(code ?? ''))
    return new AgentError('AUTH', `The webhook ${origin} cannot be trusted: ${message ?? ''}.`, {
      subject: origin,
      cause: error,
      next: 'Name the certificate of its authority in caFile, or the server by the name in its certificate.',
    })
  return new AgentError('UNAVAILABLE', `The webhook ${origin} could not be reached (${code ?? message ?? String(error)}).`, {
    subject: origin,
    cause: error,
  })
}
