import type { State } from '../state/index.ts'
import type { RepositoryPrunes } from './repository-prunes.ts'

/** In the agent's database. */
export function openSqliteRepositoryPrunes(state: State): RepositoryPrunes {
  const last = state.statement<[string], Date>(
    'SELECT pruned_at FROM repository_prune WHERE repository = ?',
    (row) => new Date(row.text('pruned_at')),
  )
  const note = state.statement<[string, string]>(
    `INSERT INTO repository_prune (repository, pruned_at) VALUES (?, ?)
     ON CONFLICT (repository) DO UPDATE SET pruned_at = max(pruned_at, excluded.pruned_at)`,
  )
  return Object.freeze({
    last: async (url: string) => last.all(url)[0],
    note: async (url: string, at: Date) => void state.transaction('prune noted', () => note.run(url, at.toISOString())),
  })
}
