import type { RunRecord } from '../core/index.ts'
import type { SqlValue, State } from '../state/index.ts'
import { MOST_UNLESS_SAID, readRecord } from './record-row.ts'
import type { RunHistory, RunQuery } from './run-history.ts'

/** The history in the agent's database. */
export function openSqliteRunHistory(state: State): RunHistory {
  const sql = prepare(state)
  return Object.freeze({
    add: async (record: RunRecord) => {
      const { run, vm, job, result } = record
      const ended = new Date(record.endedAt).toISOString()
      state.transaction('run recorded', () =>
        sql.add.run(run, vm.vcenterUuid, vm.instanceUuid, vm.moref, vm.name, vm.path, job ?? null, ended, result, JSON.stringify(record)),
      )
    },
    find: async ({ job, vm, vmId, result, since, until, limit = MOST_UNLESS_SAID }: RunQuery) => {
      const twice = (value: string | undefined): [string | null, string | null] => [value ?? null, value ?? null]
      return sql.find.all(
        ...twice(job),
        ...twice(vmId?.vcenterUuid),
        ...twice(vmId?.instanceUuid),
        vm ?? null,
        ...twice(vm),
        ...twice(vm),
        ...twice(result),
        ...twice(since?.toISOString()),
        ...twice(until?.toISOString()),
        limit,
      )
    },
    prune: async (before: Date, atLeast: number) => {
      const at = before.toISOString()
      return sql.count.get(at) === 0 ? 0 : state.transaction('runs forgotten', () => sql.prune.run(at, atLeast))
    },
  })
}

type Pair = [string | null, string | null]

function prepare(state: State) {
  return {
    add: state.statement<SqlValue[]>(
      `INSERT INTO run (run, vcenter_uuid, instance_uuid, moref, vm_name, vm_path, job, ended_at, result, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (run, vcenter_uuid, instance_uuid) DO NOTHING`,
    ),
    find: state.statement<[...Pair, ...Pair, ...Pair, string | null, ...Pair, ...Pair, ...Pair, ...Pair, ...Pair, number], RunRecord>(
      `SELECT run, record FROM run WHERE (? IS NULL OR job = ?) AND (? IS NULL OR vcenter_uuid = ?) AND (? IS NULL OR instance_uuid = ?)
         AND (? IS NULL OR vm_name = ? OR vm_path = ? OR instance_uuid = ? OR moref = ?)
         AND (? IS NULL OR result = ?) AND (? IS NULL OR ended_at >= ?) AND (? IS NULL OR ended_at < ?)
       ORDER BY ended_at DESC, id DESC LIMIT ?`,
      readRecord,
    ),
    count: state.statement<[string], number>('SELECT count(*) AS n FROM run WHERE ended_at < ?', (row) => row.integer('n')),
    prune: state.statement<[string, number]>(
      'DELETE FROM run WHERE ended_at < ? AND id NOT IN (SELECT id FROM run ORDER BY ended_at DESC, id DESC LIMIT ?)',
    ),
  }
}
