import { Conditions, type SqlValue } from '../state/index.ts'
import type { PointQuery } from './catalog.ts'
import { normalTime } from './point-row.ts'

/** More rows than any list wants; a query without a limit stops there. */
const MOST = 1_000_000

/** The statement of `Catalog.find` and its values. USAGE for what is no time. */
export function findPoints(query: PointQuery): { readonly sql: string; readonly values: readonly SqlValue[] } {
  const { vmName, instanceUuid, vcenterUuid, repository, since, until, limit = MOST } = query
  const asked = new Conditions()
    .when(vmName, 'vm_name = ?')
    .when(instanceUuid, 'instance_uuid = ?')
    .when(vcenterUuid, 'vcenter_uuid = ?')
    .when(repository, 'repository = ?')
    .when(since === undefined ? undefined : normalTime(since), 'time >= ?')
    .when(until === undefined ? undefined : normalTime(until), 'time <= ?')
  return { sql: `SELECT * FROM point ${asked.sql} ORDER BY time DESC, id LIMIT ?`, values: [...asked.values, limit] }
}
