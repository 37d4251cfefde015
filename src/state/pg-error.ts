import { AgentError, fromErrno, type ErrorCode } from '../core/index.ts'

/** How a failed exchange with the server is to be taken. */
export type PgFailure = {
  readonly error: AgentError
  /** `away`: the connection is gone, or the server takes none now; `again`: the server gave up this transaction, to let others finish; `no`: trying again changes nothing. */
  readonly retry: 'away' | 'again' | 'no'
}

const NEXT_AWAY = 'Start the database server or repair the way to it; running work goes on when it is back soon, see "vcb doctor".'
const NEXT_DAMAGED =
  'Have the database administrator look at the server and restore the database from its last backup; the points themselves are in the repositories.'

/** What to do about a row that no vcb wrote. */
export const PG_ROW_NEXT = 'Let nothing but vcb write into the schema vcb of this database, or restore it from its last backup.'

/** Node's and OpenSSL's names for a certificate that is not believed (nodejs.org/api/tls.html, "X509 certificate error codes"). */
const CERTIFICATE = /^(?:ERR_TLS_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|ERR_SSL_|INVALID_CA)/

/**
 * Translates what `pg` throws about the database `shown`; undefined when it is none of its errors. The classes are SQLSTATE's
 * (postgresql.org/docs/15/errcodes-appendix.html).
 */
export function fromPg(cause: unknown, shown: string): PgFailure | undefined {
  if (!(cause instanceof Error) || cause instanceof AgentError) return undefined
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const said = cause.message
  const failure = (as: ErrorCode, sentence: string, next?: string, retry: PgFailure['retry'] = 'no'): PgFailure => ({
    error: new AgentError(as, sentence, { subject: shown, cause, next }),
    retry,
  })
  const away = (why: string): PgFailure => failure('UNAVAILABLE', `The state database ${shown} is away: ${why}.`, NEXT_AWAY, 'away')

  if (CERTIFICATE.test(code))
    return failure(
      'AUTH',
      `The certificate of the state database ${shown} is not trusted: ${said}.`,
      'Name the certificate of its authority with "caFile", and the server as its certificate does.',
    )
  if (said === 'The server does not support SSL connections')
    return failure(
      'AUTH',
      `The state database ${shown} offers no TLS.`,
      'Switch TLS on in the server ("ssl = on"), or use its Unix socket; a password is never sent in clear.',
    )
  if (/^[0-9A-Z]{5}$/.test(code) && 'severity' in cause) {
    switch (code) {
      case '28P01':
      case '28000':
        return failure(
          'AUTH',
          `The state database ${shown} refused the login: ${said}.`,
          'Check user, password and the pg_hba.conf of the server, then run the command again.',
        )
      case '3D000':
        return failure(
          'CONFIG',
          `The state database ${shown} does not exist.`,
          'Create it as docs/many-proxies.md shows, or correct the URL.',
        )
      case '42501':
        return failure(
          'CONFIG',
          `The user of the state database ${shown} lacks a right: ${said}.`,
          'Make it the owner of the database, as docs/many-proxies.md shows.',
        )
      case '40001':
      case '40P01':
        return failure('CONFLICT', `The state database ${shown} is changed by too many at once: ${said}.`, undefined, 'again')
      case '55P03':
      case '57014':
        return failure('CONFLICT', `The state database ${shown} is held by another process: ${said}.`, undefined, 'again')
      case '53100':
        return failure(
          'CAPACITY',
          `No space is left on the server of the state database ${shown}.`,
          'Free space there, then run the command again.',
        )
      case '53300':
        return away('it takes no more connections')
      case '25006':
      case '0A000':
        if (/recovery/.test(said))
          return failure(
            'UNAVAILABLE',
            `The state database ${shown} is a standby that takes no changes.`,
            'Name the server that is the primary now, or promote this one.',
            'away',
          )
    }
    // 08P01 is what this process said wrong.
    switch (code === '08P01' ? '' : code.slice(0, 2)) {
      case '08':
      case '57':
        return away(said)
      case '53':
        return failure('CAPACITY', `The server of the state database ${shown} is at its limits: ${said}.`, undefined)
      case '58':
        return failure('UNAVAILABLE', `Reading or writing the state database ${shown} failed: ${said}.`, NEXT_AWAY)
      case 'XX':
        return failure('INTEGRITY', `The state database ${shown} is damaged: ${said}.`, NEXT_DAMAGED)
      default:
        return failure('INTERNAL', `The state database ${shown} refused a statement: ${said} (${code}).`)
    }
  }
  if (fromErrno(cause)?.code === 'UNAVAILABLE' || code === 'ENOENT') return away(code)
  // What pg says in words only.
  if (
    /^(?:Connection terminated|timeout e|Query read timeout|Client has encountered a connection error|Client was closed|There was an error establish)/.test(
      said,
    )
  )
    return away(said.toLowerCase())
  return undefined
}
