import type { Pool, PoolClient } from 'pg'
import { AgentError, type Abortable, type Clock, effect, type Log, throwIfAborted, toAgentError } from '../core/index.ts'
import { fromPg } from './pg-error.ts'
import { isCurrent, pgMigrate, pgVersion } from './pg-migrate.ts'
import { openPgPool, type PgAccess } from './pg-pool.ts'
import { type PgAnswer, PgSession, type PgStatement, pgStatement, type PgValue } from './pg-statement.ts'

export type OpenPgStateOptions = PgAccess & {
  readonly clock: Clock
  readonly log: Log
  /** Shown by the server as the name of the application; the agent's name. */
  readonly name: string
  /** How long a server that is away is waited for. Milliseconds; PG_PATIENCE_MS by default. */
  readonly patienceMs?: number | undefined
}

/** A restart of the server, or a failover that is quick, is waited out. Longer than this, and the proxy may have been declared dead. Milliseconds. */
export const PG_PATIENCE_MS = 20_000
/** Between two attempts. Milliseconds. */
const PAUSE_MS = 250

export type PgChange = Abortable & {
  /** Changes with the same lock, of all proxies, run one after the other. Held until the end of the transaction. */
  readonly lock?: string | undefined
}

/**
 * The database that several proxies share: the asynchronous sibling of `State`. Connections are made when they are needed, and again when they broke.
 * Errors of every call: UNAVAILABLE (the server is away longer than the patience), AUTH (login or certificate refused), CAPACITY (full), CONFLICT (too busy).
 */
export interface PgState extends AsyncDisposable {
  /** Its URL, without a password. */
  readonly shown: string
  /**
   * All of `change` or none of it, durable when this resolves; read committed. `change` may run several times, when the server is away in the middle or gives up for
   * others, so it changes nothing but rows. A commit whose answer was lost is asked for: never half known, never done twice. `what` names the effect.
   */
  transaction<T>(what: string, change: (session: PgSession) => Promise<T>, options?: PgChange): Promise<T>
  /** Several reads that see one state of the database; the server refuses every change in it. */
  reading<T>(read: (session: PgSession) => Promise<T>, options?: Abortable): Promise<T>
  /** One read by itself. */
  all<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<readonly R[]>
  get<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<R | undefined>
}

/**
 * Opens the database, making its schema or bringing it to this version. Errors: those of `PgState`, CONFIG (written by a newer vcb, no right to make the
 * schema), INTEGRITY (a schema of somebody else).
 */
export async function openPgState(options: OpenPgStateOptions): Promise<PgState> {
  const pool = await openPgPool(options, `vcb ${options.name}`)
  const state = new PoolState(pool, options)
  try {
    const { shown } = options.address
    const version = await state.reading((session) => pgVersion(session, shown))
    if (!isCurrent(version)) await state.transaction('migrate', (session) => pgMigrate(session, shown))
    return state
  } catch (error) {
    await state[Symbol.asyncDispose]()
    throw error
  }
}

const LOCK = pgStatement<[string]>('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))')
const FATE = pgStatement<[string], string | undefined>('SELECT pg_xact_status($1::xid8) AS fate', (row) => row.optionalText('fate'))

/** The answer to a COMMIT was lost; `xid` is what it was about. */
class CommitUnknown extends Error {
  readonly xid: string

  constructor(xid: string, cause: unknown) {
    super('The answer to COMMIT was lost.', { cause })
    this.xid = xid
  }
}

class PoolState implements PgState {
  readonly shown: string
  readonly #pool: Pool
  readonly #clock: Clock
  readonly #log: Log
  readonly #patienceMs: number

  constructor(pool: Pool, { address, clock, log, patienceMs }: OpenPgStateOptions) {
    this.shown = address.shown
    this.#pool = pool
    this.#clock = clock
    this.#log = log
    this.#patienceMs = patienceMs ?? PG_PATIENCE_MS
    // Of idle connections: the next call makes a new one.
    pool.on('error', (error) => log.debug('a connection to the state database broke', { error: error.message }))
  }

  transaction<T>(what: string, change: (session: PgSession) => Promise<T>, options: PgChange = {}): Promise<T> {
    return effect({ kind: 'row', what, on: this.shown }, () =>
      this.#patiently(options, async () => {
        let result: T | undefined
        try {
          return await this.#within('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE', true, async (session) => {
            if (options.lock !== undefined) await session.run(LOCK, options.lock)
            return (result = await change(session))
          })
        } catch (error) {
          if (error instanceof CommitUnknown && (await this.#wasCommitted(error, options))) return result as T
          throw error instanceof CommitUnknown ? error.cause : error
        }
      }),
    )
  }

  reading<T>(read: (session: PgSession) => Promise<T>, options: Abortable = {}): Promise<T> {
    return this.#patiently(options, () => this.#within('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', false, read))
  }

  all<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<readonly R[]> {
    return this.#patiently({}, () => this.#connected((client) => sessionOf(client).all(statement, ...parameters)))
  }

  async get<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<R | undefined> {
    return (await this.all(statement, ...parameters))[0]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#pool.ended && !this.#pool.ending) await this.#pool.end()
  }

  async #within<T>(begin: string, changes: boolean, work: (session: PgSession) => Promise<T>): Promise<T> {
    return this.#connected(async (client) => {
      await client.query(begin)
      try {
        // Its number, so that its fate can be asked for when the answer to COMMIT is lost.
        const xid = changes ? String((await client.query('SELECT pg_current_xact_id()::text AS xid')).rows[0]?.xid) : undefined
        const result = await work(sessionOf(client))
        let answer: { readonly command: string }
        try {
          answer = await client.query('COMMIT')
        } catch (error) {
          if (xid !== undefined && fromPg(error, this.shown)?.retry === 'away') throw new CommitUnknown(xid, error)
          throw error
        }
        // The server answers ROLLBACK to the COMMIT of a transaction in which something failed.
        if (answer.command !== 'COMMIT') throw new AgentError('INTERNAL', 'A transaction went on after one of its statements had failed.')
        return result
      } catch (error) {
        // On a connection that broke there is nothing to roll back, and it is not used again.
        if (fromPg(error, this.shown)?.retry !== 'away' && !(error instanceof CommitUnknown)) await client.query('ROLLBACK')
        throw error
      }
    })
  }

  async #connected<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect()
    // While it is lent, its errors are the statement's that fails by it.
    const heard = (error: Error): void => this.#log.debug('a connection to the state database broke', { error: error.message })
    client.on('error', heard)
    let broken = true
    try {
      const result = await work(client)
      broken = false
      return result
    } catch (error) {
      broken = fromPg(error, this.shown)?.retry === 'away' || error instanceof CommitUnknown
      throw error
    } finally {
      client.off('error', heard)
      client.release(broken)
    }
  }

  async #wasCommitted({ xid }: CommitUnknown, options: Abortable): Promise<boolean> {
    const since = this.#clock.monotonicMs()
    for (;;) {
      const fate = await this.#patiently(options, () => this.#connected((client) => sessionOf(client).get(FATE, xid)))
      if (fate === 'committed') return true
      if (fate === 'aborted') return false
      if (fate === undefined || this.#clock.monotonicMs() - since > this.#patienceMs)
        throw new AgentError('UNAVAILABLE', `Whether the last change reached the state database ${this.shown} is not known.`, {
          subject: this.shown,
          next: 'Run "vcb status", then the command again.',
        })
      await this.#clock.sleep(PAUSE_MS, options)
    }
  }

  /** Until it succeeds, fails for good, or the server has been away for too long. */
  async #patiently<T>(options: Abortable, work: () => Promise<T>): Promise<T> {
    const since = this.#clock.monotonicMs()
    let told = false
    for (let turn = 1; ; turn++) {
      throwIfAborted(options)
      try {
        const result = await work()
        if (told) this.#log.info('the state database is back', { database: this.shown })
        return result
      } catch (error) {
        const failure = fromPg(error, this.shown)
        if (failure === undefined) throw error
        if (failure.retry === 'no' || this.#clock.monotonicMs() - since >= this.#patienceMs) throw failure.error
        if (failure.retry === 'away' && !told) {
          told = true
          this.#log.warn('the state database is away, waiting for it', { error: toAgentError(failure.error).message })
        }
        // The pause grows where many want the same row.
        await this.#clock.sleep(failure.retry === 'away' ? PAUSE_MS : Math.min(PAUSE_MS, 5 * turn), options)
      }
    }
  }
}

const sessionOf = (client: PoolClient): PgSession =>
  new PgSession(async (sql, parameters): Promise<PgAnswer> => {
    if (parameters.length > 0) return client.query(sql, [...parameters])
    // Several statements in one text, as a migration has, give a list of answers.
    const answer: PgAnswer | readonly PgAnswer[] = await client.query(sql)
    return 'rows' in answer ? answer : { rowCount: null, rows: [] }
  })
