import { type PgState, pgStatement } from '../state/index.ts'
import type { ToldMarks } from './told-marks.ts'

/** In the database that several proxies share. */
export function openPgToldMarks(state: PgState): ToldMarks {
  return Object.freeze({
    get: (name: string) => state.get(SQL.get, name),
    change: (name: string, before: string | undefined, after: string) =>
      state.transaction('told', async (session) => {
        const changed = before === undefined ? await session.run(SQL.add, name, after) : await session.run(SQL.set, name, before, after)
        return changed === 1
      }),
  })
}

const SQL = {
  get: pgStatement<[string], string>('SELECT value FROM told_mark WHERE name = $1', (row) => row.text('value')),
  add: pgStatement<[string, string]>('INSERT INTO told_mark (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING'),
  set: pgStatement<[string, string, string]>('UPDATE told_mark SET value = $3 WHERE name = $1 AND value = $2'),
}
