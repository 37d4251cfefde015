import type { State } from '../state/index.ts'
import { readCheck } from './check-row.ts'
import type { CheckRecord, RepositoryChecks } from './repository-checks.ts'

/** In the agent's database. */
export function openSqliteRepositoryChecks(state: State): RepositoryChecks {
  const of = state.statement<[string], ReturnType<typeof readCheck>>('SELECT * FROM repository_check WHERE repository = ?', readCheck)
  const all = state.statement<[], ReturnType<typeof readCheck>>('SELECT * FROM repository_check ORDER BY repository', readCheck)
  const put = state.statement<[string, string]>('INSERT OR REPLACE INTO repository_check (repository, record) VALUES (?, ?)')
  return Object.freeze({
    of: async (repository: string) => of.get(repository)?.record,
    all: async () => new Map(all.all().map(({ repository, record }) => [repository, record])),
    update: async (repository: string, change: (known: CheckRecord | undefined) => CheckRecord) =>
      state.transaction('check recorded', () => {
        const record = change(of.get(repository)?.record)
        put.run(repository, JSON.stringify(record))
        return record
      }),
  })
}
