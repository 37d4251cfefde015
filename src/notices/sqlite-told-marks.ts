import type { State } from '../state/index.ts'
import type { ToldMarks } from './told-marks.ts'

/** In the agent's database. */
export function openSqliteToldMarks(state: State): ToldMarks {
  const get = state.statement<[string], string>('SELECT value FROM told_mark WHERE name = ?', (row) => row.text('value'))
  const add = state.statement<[string, string]>('INSERT INTO told_mark (name, value) VALUES (?, ?)')
  const set = state.statement<[string, string]>('UPDATE told_mark SET value = ? WHERE name = ?')
  return Object.freeze({
    get: (name: string) => Promise.resolve(get.get(name)),
    change: (name: string, before: string | undefined, after: string) =>
      Promise.resolve(
        state.transaction('told', () => {
          if (get.get(name) !== before) return false
          if (before === undefined) add.run(name, after)
          else set.run(after, name)
          return true
        }),
      ),
  })
}
