import { Conditions, type SqlValue } from '../state/index.ts'
import { MOST_UNLESS_SAID } from './record-row.ts'
import type { RunQuery } from './run-history.ts'

/** The statement of `RunHistory.find` and its values. */
export function findRuns(query: RunQuery): { readonly sql: string; readonly values: readonly SqlValue[] } {
  const { job, vm, vmId, result, since, until, limit = MOST_UNLESS_SAID } = query
  const asked = new Conditions()
    .when(vmId?.instanceUuid, 'instance_uuid = ?')
    .when(vmId?.vcenterUuid, 'vcenter_uuid = ?')
    .when(vm, 'vm_name = ? OR vm_path = ? OR instance_uuid = ? OR moref = ?')
    // A job has many more runs than a VM: without a measure of the table SQLite would go by the job.
    .when(job, vm === undefined && vmId === undefined ? 'job = ?' : "coalesce(job, '') = ?")
    .when(result, 'result = ?')
    .when(since?.toISOString(), 'ended_at >= ?')
    .when(until?.toISOString(), 'ended_at < ?')
  return { sql: `SELECT run, record FROM run ${asked.sql} ORDER BY ended_at DESC, id DESC LIMIT ?`, values: [...asked.values, limit] }
}
