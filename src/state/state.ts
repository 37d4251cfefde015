import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { AgentError, effectNow, ensureDirectory, isMissing, setPermissions } from '../core/index.ts'
import { MIGRATIONS } from './migrations.ts'
import { isLogLost } from './set-aside.ts'
import { damagedState, fromSqlite, lostLog, lostState } from './sqlite-error.ts'
import { type Row, type SqlValue, Statement } from './statement.ts'

/** "vcbs" in the header's application id: another program's SQLite file is refused instead of migrated. */
const APPLICATION_ID = 0x76636273

export type OpenStateOptions = {
  /** How long a writer waits for another process. Milliseconds; 10 000 by default. */
  readonly busyTimeoutMs?: number | undefined
  /** There has been one before: a missing or empty file is not the first start but a loss. */
  readonly known?: boolean | undefined
}

/** The open database. Statements are prepared once by their owner and live as long as this. */
export interface State extends AsyncDisposable {
  readonly path: string
  statement<P extends readonly SqlValue[], R = never>(sql: string, decode?: (row: Row) => R): Statement<P, R>
  /**
   * All of `change` or none of it, durable when this returns. Takes the write lock at once; must not be nested. Synchronous. `what` names the
   * change as an effect: `claim intended`.
   */
  transaction<T>(what: string, change: () => T): T
  /**
   * The same for what a power cut may take back: it outlives the process at once, the machine with the next durable transaction, in order. For what whoever
   * finds the database later does again or finds out (a claim confirmed or released) or needs no more (limits). Each spares the main thread a wait for the disk.
   */
  note<T>(what: string, change: () => T): T
  /** Several reads that see one state of the database. Must not be nested. Synchronous. */
  reading<T>(read: () => T): T
}

/**
 * Opens the agent's database, making it when it is missing and migrating it when it is older. Private to the user (mode 0600).
 * Errors: CONFIG (written by a newer vcb, no access), INTEGRITY (damaged, lost or foreign file), CONFLICT (held by another process too long).
 */
export async function openState(path: string, options: OpenStateOptions = {}): Promise<State> {
  await ensureDirectory(dirname(path))
  if (await isLogLost(path)) throw lostLog(path)
  const known = options.known === true
  if (known && (await isMissingOrEmpty(path))) throw lostState(path)
  let database: DatabaseSync | undefined
  try {
    const timeout = options.busyTimeoutMs ?? 10_000
    const opened = effectNow({ kind: 'row', what: 'open', on: path }, () => {
      database = new DatabaseSync(path, { timeout, enableForeignKeyConstraints: true })
      prepareFile(database, path, known)
      return database
    })
    migrate(opened, path)
    await setPermissions(path, 0o600)
    return new SqliteState(path, opened)
  } catch (error) {
    database?.close()
    throw fromSqlite(error, path) ?? error
  }
}

async function isMissingOrEmpty(path: string): Promise<boolean> {
  try {
    return (await stat(path)).size === 0
  } catch (error) {
    if (isMissing(error)) return true
    throw error
  }
}

function prepareFile(database: DatabaseSync, path: string, known: boolean): void {
  const empty = pragma(database, 'schema_version') === 0
  if (empty && known) throw lostState(path)
  if (!empty && pragma(database, 'application_id') !== APPLICATION_ID) throw damagedState(path, undefined)
  const version = pragma(database, 'user_version')
  if (version > MIGRATIONS.length) {
    throw new AgentError('CONFIG', `The state database ${path} has version ${version}, this vcb knows up to ${MIGRATIONS.length}.`, {
      subject: path,
      next: 'Use the newer vcb that wrote it, or name another state directory.',
    })
  }
  // FULL makes every commit durable before it returns: a claim's intent must survive a power cut that its effect survives.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;')
  const check = database.prepare('PRAGMA quick_check(1)').get()
  if (check?.['quick_check'] !== 'ok') throw damagedState(path, check?.['quick_check'])
}

function migrate(database: DatabaseSync, path: string): void {
  if (pragma(database, 'user_version') === MIGRATIONS.length) return
  effectNow({ kind: 'row', what: 'migrate', on: path }, () => applyMigrations(database, path))
}

function applyMigrations(database: DatabaseSync, path: string): void {
  database.exec('BEGIN IMMEDIATE')
  try {
    // Read again under the lock: another process may have migrated meanwhile.
    const version = pragma(database, 'user_version')
    if (version > MIGRATIONS.length) throw new AgentError('CONFLICT', `The state database ${path} was migrated by a newer vcb meanwhile.`)
    for (const step of MIGRATIONS.slice(version)) database.exec(step)
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${MIGRATIONS.length};`)
    database.exec('COMMIT')
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function pragma(database: DatabaseSync, name: string): number {
  const value = database.prepare(`PRAGMA ${name}`).get()?.[name]
  return typeof value === 'number' ? value : 0
}

class SqliteState implements State {
  readonly path: string
  readonly #database: DatabaseSync
  #changing = false

  constructor(path: string, database: DatabaseSync) {
    this.path = path
    this.#database = database
  }

  statement<P extends readonly SqlValue[], R = never>(sql: string, decode: (row: Row) => R = noRows): Statement<P, R> {
    try {
      return new Statement<P, R>(this.#database.prepare(sql), decode, this.path, () => this.#changing)
    } catch (error) {
      throw fromSqlite(error, this.path) ?? error
    }
  }

  transaction<T>(what: string, change: () => T): T {
    return effectNow({ kind: 'row', what, on: this.path }, () => this.#change(change))
  }

  note<T>(what: string, change: () => T): T {
    return effectNow({ kind: 'row', what, on: this.path }, () => {
      this.#database.exec('PRAGMA synchronous = NORMAL')
      try {
        return this.#change(change)
      } finally {
        this.#database.exec('PRAGMA synchronous = FULL')
      }
    })
  }

  reading<T>(read: () => T): T {
    return this.#within('BEGIN', read)
  }

  #change<T>(change: () => T): T {
    return this.#within('BEGIN IMMEDIATE', () => {
      this.#changing = true
      try {
        return change()
      } finally {
        this.#changing = false
      }
    })
  }

  #within<T>(begin: string, change: () => T): T {
    try {
      this.#database.exec(begin)
      try {
        const result = change()
        this.#database.exec('COMMIT')
        return result
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
        throw error
      }
    } catch (error) {
      throw fromSqlite(error, this.path) ?? error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) effectNow({ kind: 'row', what: 'close', on: this.path }, () => this.#database.close())
  }
}

const noRows = (): never => {
  throw new AgentError('INTERNAL', 'A statement without a decoder was asked for rows.')
}
