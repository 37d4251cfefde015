import { AgentError } from '../../core/index.ts'
import { BusyError } from '../tries.ts'

/** Most of a server's explanation that is shown. */
const SHOWN = 200

export type RestRefusal = {
  readonly host: string
  /** What was asked for: `save data/ab…`. */
  readonly what: string
  readonly status: number
  /** Of the header, as it came. */
  readonly retryAfter: string | undefined
  /** Beginning of the body. */
  readonly text: string
  /** ms since 1970. */
  readonly now: number
}

/** What a status that was not expected means. */
export function restError(refusal: RestRefusal): AgentError {
  const { host, what, status, now } = refusal
  const said = sayable(refusal.text)
  const init = { subject: host }
  const answered = `${host} answered ${what} with status ${status}${said === '' ? '' : `: ${said}`}`
  switch (status) {
    case 401:
      return new AgentError('AUTH', `${host} refused the login of the REST repository.`, {
        ...init,
        next: 'Give its user and password as rest of the repository in vcb.yaml, or RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD.',
      })
    case 403:
      return new AgentError('CONFIG', `${answered}.`, {
        ...init,
        next: 'See what this user may do there: private repositories are below /USER/.',
      })
    case 413:
    case 507:
      return new AgentError('CAPACITY', `${answered}: no space is left there.`, init)
    case 429:
    case 503:
      return new BusyError(`${answered}.`, retryAfterMs(refusal.retryAfter, now), host)
    default:
      if (status >= 500) return new AgentError('UNAVAILABLE', `${answered}.`, { ...init, retry: 'later' })
      return new AgentError('CONFIG', `${answered}.`, { ...init, next: 'Check the address: behind it must be a REST server for restic.' })
  }
}

/** Seconds, or a date (RFC 9110, section 10.2.3). */
export function retryAfterMs(text: string | undefined, now: number): number | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,9}$/u.test(text)) return Number(text) * 1000
  const date = /^[A-Z][a-z]+,? /u.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

const sayable = (text: string): string =>
  text
    .replaceAll(/[\p{C}\s]+/gu, ' ')
    .trim()
    .slice(0, SHOWN)
