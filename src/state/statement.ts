import type { StatementSync } from 'node:sqlite'
import { AgentError } from '../core/index.ts'
import { DAMAGED_NEXT, fromSqlite } from './sqlite-error.ts'

export type SqlValue = string | number | null | Uint8Array

/** One row, read column by column with its type checked: a damaged or foreign file gives INTEGRITY, never a wrong type. */
export class Row {
  readonly #columns: Readonly<Record<string, unknown>>
  readonly #next: string

  /** `next` tells what to do about a wrong column. */
  constructor(columns: Readonly<Record<string, unknown>>, next = DAMAGED_NEXT) {
    this.#columns = columns
    this.#next = next
  }

  text(column: string): string {
    const value = this.#columns[column]
    if (typeof value !== 'string') throw this.#wrong(column, 'text')
    return value
  }

  integer(column: string): number {
    const value = this.#columns[column]
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw this.#wrong(column, 'an integer')
    return value
  }

  optionalText(column: string): string | undefined {
    return this.#columns[column] === null ? undefined : this.text(column)
  }

  optionalInteger(column: string): number | undefined {
    return this.#columns[column] === null ? undefined : this.integer(column)
  }

  /** A JSON column; undefined for NULL. */
  json(column: string): unknown {
    const text = this.optionalText(column)
    if (text === undefined) return undefined
    try {
      return JSON.parse(text)
    } catch (error) {
      throw this.#wrong(column, 'JSON', error)
    }
  }

  #wrong(column: string, wanted: string, cause?: unknown): AgentError {
    return new AgentError('INTEGRITY', `The state database holds no ${wanted} in column ${column}.`, { cause, next: this.#next })
  }
}

/** One prepared statement: parameters in, rows decoded on the way out. Synchronous, as SQLite is. */
export class Statement<P extends readonly SqlValue[], R> {
  readonly #statement: StatementSync
  readonly #decode: (row: Row) => R
  readonly #path: string
  readonly #changing: () => boolean

  constructor(statement: StatementSync, decode: (row: Row) => R, path: string, changing: () => boolean) {
    this.#statement = statement
    this.#decode = decode
    this.#path = path
    this.#changing = changing
  }

  /** Runs a change, inside `State.transaction` only, which makes it an effect; the number of rows it touched. */
  run(...parameters: P): number {
    if (!this.#changing()) throw new AgentError('INTERNAL', 'A change of the state database was tried outside a transaction.')
    return this.#translated(() => Number(this.#statement.run(...parameters).changes))
  }

  get(...parameters: P): R | undefined {
    const row = this.#translated(() => this.#statement.get(...parameters))
    return row === undefined ? undefined : this.#decode(new Row(row))
  }

  /** All rows at once: only for queries with a small or limited answer. */
  all(...parameters: P): R[] {
    return this.#translated(() => this.#statement.all(...parameters)).map((row) => this.#decode(new Row(row)))
  }

  #translated<T>(call: () => T): T {
    try {
      return call()
    } catch (error) {
      throw fromSqlite(error, this.#path) ?? error
    }
  }
}
