import type { Row } from '../state/index.ts'
import type { RenewalRecord } from './repository-renewals.ts'

/** A row of `repository_renewal`. */
export function readRenewal(row: Row): { readonly repository: string; readonly record: RenewalRecord } {
  const [what, at] = [row.optionalText('problem'), row.optionalText('problem_at')]
  const problem = what === undefined || at === undefined ? undefined : { what, at }
  return {
    repository: row.text('repository'),
    record: { renewedAt: row.optionalText('renewed_at'), short: row.integer('short_points'), problem },
  }
}
