import type { RunRecord } from '../core/index.ts'
import { numbered, type PgState, pgStatement, type PgValue } from '../state/index.ts'
import { findRuns } from './find-runs.ts'
import { readRecord } from './record-row.ts'
import type { RunHistory, RunQuery } from './run-history.ts'

/** The history in the database that several proxies share. */
export function openPgRunHistory(state: PgState): RunHistory {
  return Object.freeze({
    add: async (record: RunRecord) => {
      const { run, vm, job, result } = record
      const ended = new Date(record.endedAt).toISOString()
      const { vcenterUuid, instanceUuid, moref, name, path } = vm
      await state.transaction('run recorded', (session) =>
        session.run(SQL.add, run, vcenterUuid, instanceUuid, moref, name, path, job ?? null, ended, result, JSON.stringify(record)),
      )
    },
    find: (query: RunQuery) => {
      const { sql, values } = findRuns(query)
      return state.all(pgStatement<PgValue[], RunRecord>(numbered(sql), readRecord), ...values)
    },
    prune: async (before: Date, atLeast: number) => {
      const at = before.toISOString()
      if ((await state.get(SQL.older, at)) === undefined) return 0
      return state.transaction('runs forgotten', (session) => session.run(SQL.prune, at, atLeast), { lock: 'runs forgotten' })
    },
  })
}

type Text = string | null

const SQL = {
  add: pgStatement<Text[]>(
    `INSERT INTO run (run, vcenter_uuid, instance_uuid, moref, vm_name, vm_path, job, ended_at, result, record)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (run, vcenter_uuid, instance_uuid) DO NOTHING`,
  ),
  older: pgStatement<[string], number>('SELECT id FROM run WHERE ended_at < $1 LIMIT 1', (row) => row.integer('id')),
  prune: pgStatement<[string, number]>(
    'DELETE FROM run WHERE ended_at < $1 AND id NOT IN (SELECT id FROM run ORDER BY ended_at DESC, id DESC LIMIT $2)',
  ),
}
