import { AgentError } from '../core/index.ts'

/** Where the state database is, without its password. Frozen. */
export type PgAddress = {
  /** A host's name or address, or the directory of a Unix socket (it begins with a slash). */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  /** As it is shown; there is never a password in it. */
  readonly shown: string
}

/** True where the connection never leaves this machine, and TLS has nothing to add. */
export const isLocal = ({ host }: Pick<PgAddress, 'host'>): boolean => host.startsWith('/')

/**
 * Reads `postgres://user@host:5432/database`, or `postgres:///database?host=/run/postgresql&user=vcb` for a Unix socket, as libpq writes them
 * (postgresql.org/docs/15/libpq-connect.html, 34.1.1.2). Errors: CONFIG, also for a password in it, and for a parameter that would ask for less than verified TLS.
 */
export function parsePgAddress(text: string): PgAddress {
  const wrong = (why: string, next = EXAMPLE): AgentError => new AgentError('CONFIG', `The URL of the state database ${why}.`, { next })
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw wrong('is no URL')
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') throw wrong(`begins with "${url.protocol}" and not with "postgres:"`)
  if (url.password !== '' || url.searchParams.has('password'))
    throw wrong(
      'holds a password',
      'Take the password out of the URL and name a file with "passwordFile", or a variable with "passwordEnv".',
    )
  const parameters = new Map(url.searchParams)
  const mode = parameters.get('sslmode')
  if (mode !== undefined && mode !== 'verify-full')
    throw wrong(`asks for sslmode=${mode}`, 'Leave sslmode out: the certificate is always verified, against the system or "caFile".')
  for (const key of parameters.keys())
    if (!['host', 'user', 'port', 'sslmode'].includes(key)) throw wrong(`has the unknown parameter "${key}"`)
  const host = parameters.get('host') ?? decodeURIComponent(url.hostname.replace(/^\[(.*)\]$/, '$1'))
  const user = parameters.get('user') ?? decodeURIComponent(url.username)
  const database = decodeURIComponent(url.pathname.slice(1))
  const port = Number(parameters.get('port') ?? (url.port === '' ? 5432 : url.port))
  if (host === '') throw wrong('names no host')
  if (user === '') throw wrong('names no user')
  if (database === '' || database.includes('/')) throw wrong('names no database')
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw wrong('has a port that is none')
  const shown = host.startsWith('/')
    ? `postgres:///${database}?host=${host}${port === 5432 ? '' : `&port=${port}`}&user=${user}`
    : `postgres://${user}@${host.includes(':') ? `[${host}]` : host}:${port}/${database}`
  return Object.freeze({ host, port, user, database, shown })
}

const EXAMPLE = 'Write it as postgres://vcb@db.example.com:5432/vcb, or as postgres:///vcb?host=/run/postgresql&user=vcb for a Unix socket.'
