import { AgentError } from '../core/index.ts'
import { PG_ROW_NEXT } from './pg-error.ts'
import { Row, type SqlValue } from './statement.ts'

/** Parameters of a statement over PostgreSQL; a list goes to `ANY($1::text[])` or `unnest`. */
export type PgValue = SqlValue | readonly string[] | readonly number[]

/** A statement's text with `$1`…, its parameters as a type, and how its rows are read. A value: it belongs to no connection. */
export type PgStatement<P extends readonly PgValue[], R> = {
  readonly sql: string
  readonly decode: (row: Row) => R
  /** Never set; carries the type. */
  readonly parameters?: P
}

/** More rows than any answer should have; every query that could grow has a LIMIT of its own. */
const MOST_ROWS = 1_000_000

export function pgStatement<P extends readonly PgValue[], R = never>(sql: string, decode: (row: Row) => R = noRows): PgStatement<P, R> {
  return Object.freeze({ sql, decode })
}

/** What `pg` answers. */
export type PgAnswer = { readonly rowCount: number | null; readonly rows: readonly Readonly<Record<string, unknown>>[] }

/** Runs statements, all on one connection. */
export class PgSession {
  readonly #query: (sql: string, parameters: readonly PgValue[]) => Promise<PgAnswer>

  constructor(query: (sql: string, parameters: readonly PgValue[]) => Promise<PgAnswer>) {
    this.#query = query
  }

  /** The number of rows it touched. */
  async run<P extends readonly PgValue[]>(statement: PgStatement<P, unknown>, ...parameters: P): Promise<number> {
    return (await this.#query(statement.sql, parameters)).rowCount ?? 0
  }

  async get<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<R | undefined> {
    return (await this.all(statement, ...parameters))[0]
  }

  /** All rows at once: only for queries with a small or limited answer. Also of changes with RETURNING. */
  async all<P extends readonly PgValue[], R>(statement: PgStatement<P, R>, ...parameters: P): Promise<readonly R[]> {
    const { rows } = await this.#query(statement.sql, parameters)
    if (rows.length > MOST_ROWS) throw new AgentError('INTERNAL', `A query of the state database answered ${rows.length} rows.`)
    return rows.map((row) => statement.decode(new Row(row, PG_ROW_NEXT)))
  }
}

const noRows = (): never => {
  throw new AgentError('INTERNAL', 'A statement without a decoder was asked for rows.')
}
