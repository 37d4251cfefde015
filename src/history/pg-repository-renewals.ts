import { type PgState, pgStatement } from '../state/index.ts'
import { readRenewal } from './renewal-row.ts'
import type { RepositoryRenewals } from './repository-renewals.ts'

/** In the database that several proxies share. */
export function openPgRepositoryRenewals(state: PgState): RepositoryRenewals {
  return Object.freeze({
    all: async () => new Map((await state.all(SQL.all)).map(({ repository, record }) => [repository, record])),
    renewed: async (repository: string, at: Date, short: number) =>
      void (await state.transaction('renewal recorded', (session) => session.run(SQL.renewed, repository, at.toISOString(), short))),
    failed: async (repository: string, at: Date, what: string) =>
      void (await state.transaction('renewal recorded', (session) => session.run(SQL.failed, repository, what, at.toISOString()))),
  })
}

const SQL = {
  all: pgStatement<[], ReturnType<typeof readRenewal>>('SELECT * FROM repository_renewal ORDER BY repository', readRenewal),
  renewed: pgStatement<[string, string, number]>(
    `INSERT INTO repository_renewal (repository, renewed_at, short_points) VALUES ($1, $2, $3)
     ON CONFLICT (repository) DO UPDATE SET renewed_at = excluded.renewed_at, short_points = excluded.short_points, problem = NULL, problem_at = NULL`,
  ),
  failed: pgStatement<[string, string, string]>(
    `INSERT INTO repository_renewal (repository, short_points, problem, problem_at) VALUES ($1, 0, $2, $3)
     ON CONFLICT (repository) DO UPDATE SET problem = excluded.problem, problem_at = excluded.problem_at`,
  ),
}
