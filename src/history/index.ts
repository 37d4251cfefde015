/**
 * Rank 2. What became of each run of each VM, and since when jobs know their VMs: what the scheduler, reports and `vcb history` look back on. Not needed to
 * restore anything, and never asked what is held: that is the journal's.
 */
export type { CheckRecord, FoundProblem, RepositoryChecks } from './repository-checks.ts'
export type { JobVms } from './job-vms.ts'
export type { RunHistory, RunQuery } from './run-history.ts'
export { openPgJobVms } from './pg-job-vms.ts'
export type { RepositoryPrunes } from './repository-prunes.ts'
export { openPgRepositoryPrunes } from './pg-repository-prunes.ts'
export { openPgRunHistory } from './pg-run-history.ts'
export { openSqliteJobVms } from './sqlite-job-vms.ts'
export { openSqliteRepositoryPrunes } from './sqlite-repository-prunes.ts'
export type { RenewalRecord, RepositoryRenewals } from './repository-renewals.ts'
export { openPgRepositoryRenewals } from './pg-repository-renewals.ts'
export { openSqliteRepositoryRenewals } from './sqlite-repository-renewals.ts'
export { openPgRepositoryChecks } from './pg-repository-checks.ts'
export { openSqliteRepositoryChecks } from './sqlite-repository-checks.ts'
export { openSqliteRunHistory } from './sqlite-run-history.ts'
