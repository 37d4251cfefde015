import type { State } from '../state/index.ts'
import { readRenewal } from './renewal-row.ts'
import type { RepositoryRenewals } from './repository-renewals.ts'

/** In the agent's database. */
export function openSqliteRepositoryRenewals(state: State): RepositoryRenewals {
  const all = state.statement<[], ReturnType<typeof readRenewal>>('SELECT * FROM repository_renewal ORDER BY repository', readRenewal)
  const renewed = state.statement<[string, string, number]>(
    `INSERT INTO repository_renewal (repository, renewed_at, short_points) VALUES (?, ?, ?)
     ON CONFLICT (repository) DO UPDATE SET renewed_at = excluded.renewed_at, short_points = excluded.short_points, problem = NULL, problem_at = NULL`,
  )
  const failed = state.statement<[string, string, string]>(
    `INSERT INTO repository_renewal (repository, short_points, problem, problem_at) VALUES (?, 0, ?, ?)
     ON CONFLICT (repository) DO UPDATE SET problem = excluded.problem, problem_at = excluded.problem_at`,
  )
  return Object.freeze({
    all: async () => new Map(all.all().map(({ repository, record }) => [repository, record])),
    renewed: async (repository: string, at: Date, short: number) =>
      void state.transaction('renewal recorded', () => renewed.run(repository, at.toISOString(), short)),
    failed: async (repository: string, at: Date, what: string) =>
      void state.transaction('renewal recorded', () => failed.run(repository, what, at.toISOString())),
  })
}
