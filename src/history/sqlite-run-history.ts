import type { RunRecord } from '../core/index.ts'
import type { SqlValue, State, Statement } from '../state/index.ts'
import { findRuns } from './find-runs.ts'
import { readRecord } from './record-row.ts'
import type { RunHistory, RunQuery } from './run-history.ts'

/** The history in the agent's database. */
export function openSqliteRunHistory(state: State): RunHistory {
  const sql = prepare(state)
  // By their text: one for each set of fields that was asked for.
  const finds = new Map<string, Statement<SqlValue[], RunRecord>>()
  return Object.freeze({
    add: async (record: RunRecord) => {
      const { run, vm, job, result } = record
      const ended = new Date(record.endedAt).toISOString()
      state.transaction('run recorded', () =>
        sql.add.run(run, vm.vcenterUuid, vm.instanceUuid, vm.moref, vm.name, vm.path, job ?? null, ended, result, JSON.stringify(record)),
      )
    },
    find: async (query: RunQuery) => {
      const { sql: text, values } = findRuns(query)
      let statement = finds.get(text)
      if (statement === undefined) finds.set(text, (statement = state.statement<SqlValue[], RunRecord>(text, readRecord)))
      return statement.all(...values)
    },
    prune: async (before: Date, atLeast: number) => {
      const at = before.toISOString()
      return sql.count.get(at) === 0 ? 0 : state.transaction('runs forgotten', () => sql.prune.run(at, atLeast))
    },
  })
}

function prepare(state: State) {
  return {
    add: state.statement<SqlValue[]>(
      `INSERT INTO run (run, vcenter_uuid, instance_uuid, moref, vm_name, vm_path, job, ended_at, result, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (run, vcenter_uuid, instance_uuid) DO NOTHING`,
    ),
    count: state.statement<[string], number>('SELECT count(*) AS n FROM run WHERE ended_at < ?', (row) => row.integer('n')),
    prune: state.statement<[string, number]>(
      'DELETE FROM run WHERE ended_at < ? AND id NOT IN (SELECT id FROM run ORDER BY ended_at DESC, id DESC LIMIT ?)',
    ),
  }
}
