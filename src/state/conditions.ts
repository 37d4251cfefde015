import type { SqlValue } from './statement.ts'

/**
 * What a search asks for, as the WHERE of its statement: only of the fields given, because a condition written for all of them (`? IS NULL OR vm = ?`) keeps
 * SQLite from every index. One shape of search is always the same text, so a statement can be kept by it.
 */
export class Conditions {
  readonly #parts: string[] = []
  readonly #values: SqlValue[] = []

  /** `condition` with `?` for the value, as often as it stands there; nothing when there is no value. */
  when(value: SqlValue | undefined, condition: string): this {
    if (value === undefined) return this
    this.#parts.push(condition)
    for (const _ of condition.matchAll(/\?/gu)) this.#values.push(value)
    return this
  }

  /** `WHERE …`, or nothing. */
  get sql(): string {
    return this.#parts.length === 0 ? '' : `WHERE ${this.#parts.map((part) => `(${part})`).join(' AND ')}`
  }

  /** For the `?` of `sql`, in their order. */
  get values(): readonly SqlValue[] {
    return this.#values
  }
}

/** The same text with `$1`, `$2`… for its `?`. Not for texts with a `?` of another meaning. */
export function numbered(sql: string): string {
  let number = 0
  return sql.replaceAll('?', () => `$${++number}`)
}
