import type { RunRecord } from '../core/index.ts'
import { type PgState, pgStatement } from '../state/index.ts'
import { MOST_UNLESS_SAID, readRecord } from './record-row.ts'
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
    find: ({ job, vm, vmId, result, since, until, limit = MOST_UNLESS_SAID }: RunQuery) =>
      state.all(
        SQL.find,
        job ?? null,
        vmId?.vcenterUuid ?? null,
        vmId?.instanceUuid ?? null,
        vm ?? null,
        result ?? null,
        since?.toISOString() ?? null,
        until?.toISOString() ?? null,
        limit,
      ),
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
  find: pgStatement<[Text, Text, Text, Text, Text, Text, Text, number], RunRecord>(
    `SELECT run, record FROM run WHERE ($1::text IS NULL OR job = $1) AND ($2::text IS NULL OR vcenter_uuid = $2)
       AND ($3::text IS NULL OR instance_uuid = $3)
       AND ($4::text IS NULL OR vm_name = $4 OR vm_path = $4 OR instance_uuid = $4 OR moref = $4)
       AND ($5::text IS NULL OR result = $5) AND ($6::text IS NULL OR ended_at >= $6) AND ($7::text IS NULL OR ended_at < $7)
     ORDER BY ended_at DESC, id DESC LIMIT $8`,
    readRecord,
  ),
  older: pgStatement<[string], number>('SELECT id FROM run WHERE ended_at < $1 LIMIT 1', (row) => row.integer('id')),
  prune: pgStatement<[string, number]>(
    'DELETE FROM run WHERE ended_at < $1 AND id NOT IN (SELECT id FROM run ORDER BY ended_at DESC, id DESC LIMIT $2)',
  ),
}
