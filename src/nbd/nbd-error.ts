import { AgentError, type ErrorCode, type Retry } from '../core/index.ts'
import { ERRNO } from './protocol.ts'

const MEANINGS: Readonly<Record<number, { readonly name: string; readonly code: ErrorCode; readonly retry?: Retry }>> = {
  [ERRNO.EPERM]: { name: 'not permitted', code: 'CONFIG' },
  [ERRNO.EIO]: { name: 'input/output error', code: 'UNAVAILABLE' },
  [ERRNO.ENOMEM]: { name: 'out of memory', code: 'UNAVAILABLE', retry: 'later' },
  [ERRNO.EINVAL]: { name: 'invalid request', code: 'UNAVAILABLE', retry: 'never' },
  [ERRNO.ENOSPC]: { name: 'no space left', code: 'CAPACITY' },
  [ERRNO.EOVERFLOW]: { name: 'too large', code: 'UNAVAILABLE', retry: 'never' },
  [ERRNO.ENOTSUP]: { name: 'not supported', code: 'UNAVAILABLE', retry: 'never' },
  [ERRNO.ESHUTDOWN]: { name: 'shutting down', code: 'UNAVAILABLE' },
}

/** What a refused request means; an error that is not in the protocol counts as EINVAL. `text` is the server's own, foreign and maybe empty. */
export function nbdError(peer: string, what: string, errno: number, text: string): AgentError {
  const meaning = MEANINGS[errno] ?? { name: `error ${errno}`, code: 'UNAVAILABLE', retry: 'never' }
  const said = shorten(text)
  return new AgentError(meaning.code, `${peer} could not ${what}: ${said === '' ? meaning.name : said} (NBD error ${errno}).`, {
    subject: peer,
    retry: meaning.retry,
  })
}

/** A peer that does not speak the protocol; the connection cannot be used any more. */
export const outOfStep = (peer: string, what: string): AgentError =>
  new AgentError('INTEGRITY', `${peer} sent ${what} in an NBD connection.`, { subject: peer })

/** One line of a stranger's text. */
export const shorten = (text: string): string => text.toWellFormed().trim().replaceAll(/\s+/g, ' ').slice(0, 300)
