import { type PgState, pgStatement } from '../state/index.ts'
import type { RepositoryPrunes } from './repository-prunes.ts'

/** In the database that several proxies share. */
export function openPgRepositoryPrunes(state: PgState): RepositoryPrunes {
  return Object.freeze({
    last: async (url: string) => (await state.all(SQL.last, url))[0],
    note: async (url: string, at: Date) =>
      void (await state.transaction('prune noted', (session) => session.run(SQL.note, url, at.toISOString()))),
  })
}

const SQL = {
  last: pgStatement<[string], Date>(
    'SELECT pruned_at FROM repository_prune WHERE repository = $1',
    (row) => new Date(row.text('pruned_at')),
  ),
  note: pgStatement<[string, string]>(
    `INSERT INTO repository_prune (repository, pruned_at) VALUES ($1, $2)
     ON CONFLICT (repository) DO UPDATE SET pruned_at = greatest(repository_prune.pruned_at, excluded.pruned_at)`,
  ),
}
