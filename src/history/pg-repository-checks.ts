import { type PgState, pgStatement } from '../state/index.ts'
import { readCheck } from './check-row.ts'
import type { CheckRecord, RepositoryChecks } from './repository-checks.ts'

/** In the database that several proxies share. */
export function openPgRepositoryChecks(state: PgState): RepositoryChecks {
  return Object.freeze({
    of: async (repository: string) => (await state.get(SQL.of, repository))?.record,
    all: async () => new Map((await state.all(SQL.all)).map(({ repository, record }) => [repository, record])),
    update: (repository: string, change: (known: CheckRecord | undefined) => CheckRecord) =>
      state.transaction(
        'check recorded',
        async (session) => {
          const record = change((await session.get(SQL.of, repository))?.record)
          await session.run(SQL.put, repository, JSON.stringify(record))
          return record
        },
        { lock: `checks of ${repository}` },
      ),
  })
}

const SQL = {
  of: pgStatement<[string], ReturnType<typeof readCheck>>('SELECT * FROM repository_check WHERE repository = $1', readCheck),
  all: pgStatement<[], ReturnType<typeof readCheck>>('SELECT * FROM repository_check ORDER BY repository', readCheck),
  put: pgStatement<[string, string]>(
    'INSERT INTO repository_check (repository, record) VALUES ($1, $2) ON CONFLICT (repository) DO UPDATE SET record = excluded.record',
  ),
}
