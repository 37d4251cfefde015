import type { Pool, PoolConfig } from 'pg'
import type { Secret } from '../core/index.ts'
import { isLocal, type PgAddress } from './pg-address.ts'

/** What it takes to reach the state database, beside its address. */
export type PgAccess = {
  readonly address: PgAddress
  /** Asked at every new connection, so that a password that was changed in its file counts. Undefined: the server knows the user otherwise (peer over a Unix socket). */
  readonly password?: (() => Promise<Secret>) | undefined
  /** Certificates of the authority in PEM; the system's own otherwise. */
  readonly ca?: string | undefined
}

/** Connections of one process, at most. */
const MOST_CONNECTIONS = 10
const MOST_PLAIN = 4
/** A connection is made within this time, or the server is away. Milliseconds. */
const CONNECT_MS = 5_000
/** A statement is answered within this time, or the connection counts as broken. Milliseconds. */
const ANSWER_MS = 30_000

/**
 * What every session is told. Nothing is changed but in a transaction that says so (`BEGIN READ WRITE`): the server refuses the rest. A commit that has returned
 * is on disk, whatever the role's default is. A peer that vanished without a word is noticed within 20 s, and its locks are free.
 */
const SESSION = {
  default_transaction_read_only: 'on',
  synchronous_commit: 'on',
  timezone: 'UTC',
  datestyle: 'ISO',
  search_path: 'vcb',
  statement_timeout: String(ANSWER_MS - 5_000),
  idle_in_transaction_session_timeout: '30000',
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '3',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '20000',
}

/**
 * The only place that loads the driver: a proxy with its own SQLite file never does. `plain`: for pg-boss, which changes things in its own ways, in its own
 * schema, and reads columns as `pg` gives them.
 */
export async function openPgPool({ address, password, ca }: PgAccess, name: string, kind: 'ours' | 'plain' = 'ours'): Promise<Pool> {
  const { default: pg } = await import('pg')
  const config: PoolConfig = {
    host: address.host,
    port: address.port,
    user: address.user,
    database: address.database,
    // An empty one keeps pg from looking for a .pgpass of the user.
    password: password === undefined ? () => '' : async () => (await password()).reveal(),
    ssl: isLocal(address) ? false : { ca, minVersion: 'TLSv1.2', rejectUnauthorized: true },
    application_name: name,
    options: Object.entries(kind === 'ours' ? SESSION : { ...SESSION, default_transaction_read_only: 'off', search_path: 'public' })
      .map(([key, value]) => `-c ${key}=${value}`)
      .join(' '),
    max: MOST_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: ANSWER_MS,
    idleTimeoutMillis: 60_000,
    allowExitOnIdle: true,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(kind === 'ours' ? { types: { getTypeParser } } : { max: MOST_PLAIN }),
  }
  return new pg.Pool(config)
}

// Object ids of built-in types (pg_type.dat of PostgreSQL).
const BOOL = 16
const BYTEA = 17
const INT8 = 20
const INT2 = 21
const INT4 = 23
const TIMESTAMPTZ = 1184

/** Columns become what `Row` reads: integers as numbers, truth as 1 and 0, moments as ISO 8601 in UTC, all else as text. */
function getTypeParser(oid: number): (text: string) => unknown {
  switch (oid) {
    case BOOL:
      return (text) => (text === 't' ? 1 : 0)
    case INT2:
    case INT4:
    case INT8:
      return Number
    case BYTEA:
      return (text) => Buffer.from(text.slice(2), 'hex')
    case TIMESTAMPTZ:
      return (text) => new Date(text.replace(' ', 'T').replace(/\+00$/, 'Z')).toISOString()
    default:
      return (text) => text
  }
}
