import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { PointQuery } from '../../src/catalog/catalog.ts'
import { findPoints } from '../../src/catalog/find-points.ts'
import { findRuns } from '../../src/history/find-runs.ts'
import type { RunQuery } from '../../src/history/run-history.ts'
import { numbered, openState, pgStatement, type PgValue, type Row, type SqlValue } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { startPostgres } from '../postgres.ts'

/** What the dispatcher, a backup and people look for, and the index that each is to use. */
const RUNS: readonly (readonly [RunQuery, readonly string[]])[] = [
  [{ vmId: { vcenterUuid: 'vc', instanceUuid: 'i7' } }, ['run_vm']],
  [{ vmId: { vcenterUuid: 'vc', instanceUuid: 'i7' }, job: 'j1', since: new Date(0), limit: 5 }, ['run_vm']],
  [{ vm: 'vm7' }, ['run_vm_name', 'run_vm_path', 'run_vm', 'run_moref']],
  [{ vm: 'vm7', job: 'j1' }, ['run_vm_name', 'run_vm_path', 'run_vm', 'run_moref']],
  [{ job: 'j1', limit: 5 }, ['run_job']],
  [{ since: new Date('2026-11-26T00:00:00Z') }, ['run_ended']],
]
const POINTS: readonly (readonly [PointQuery, readonly string[]])[] = [
  [{ instanceUuid: 'i7', vcenterUuid: 'vc' }, ['point_vm']],
  [{ instanceUuid: 'i7', vcenterUuid: 'vc', repository: 'restic:/a', limit: 16 }, ['point_vm']],
  [{ vmName: 'vm7' }, ['point_vm_name']],
  [{ until: '2026-11-27T00:00:00Z', limit: 10 }, ['point_time']],
]
const SEARCHES = [
  ...RUNS.map(([query, indexes]) => [JSON.stringify(query), findRuns(query), indexes] as const),
  ...POINTS.map(([query, indexes]) => [JSON.stringify(query), findPoints(query), indexes] as const),
]

describe('searches in the state file', () => {
  it('look at the rows of the VM or job they ask for, not at all', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-plans-'))
    try {
      await using state = await openState(join(directory, 'state.db'))
      for (const [name, { sql, values }, indexes] of SEARCHES) {
        const plan = state.statement<SqlValue[], string>(`EXPLAIN QUERY PLAN ${sql}`, (row) => row.text('detail')).all(...values)
        for (const index of indexes) expect(plan.join('\n'), name).toMatch(new RegExp(`USING INDEX ${index}\\b`, 'u'))
        if (!('until' in JSON.parse(name))) expect(plan.join('\n'), name).not.toContain('SCAN')
      }
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

describePeer('postgres', 'shared', (path) => {
  it('so do those in the database of several proxies, with the rows of 500 VMs', async () => {
    await using server = await startPostgres(path)
    const database = await server.database()
    await using state = await server.state({ database })
    const moment = `to_char(timestamp '2026-11-27' - (n / 500) * interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS.000Z"')`
    server.sql(
      `INSERT INTO vcb.run (run, vcenter_uuid, instance_uuid, moref, vm_name, vm_path, job, ended_at, result, record)
         SELECT 'r' || n, 'vc', 'i' || n % 500, 'vm-' || n % 500, 'vm' || n % 500, '/DC/vm/' || n % 500, 'j' || n % 50, ${moment}, 'succeeded', '{}'
         FROM generate_series(1, 20000) AS n;
       INSERT INTO vcb.point (repository, id, time, vm_name, instance_uuid, vcenter_uuid, mode, run, consistency, total_bytes, read_bytes, stored_bytes, not_protected)
         SELECT 'restic:/a', 'p' || n, ${moment}, 'vm' || n % 500, 'i' || n % 500, 'vc', 'full', 'r' || n, 'crash', 1, 1, 1, 0
         FROM generate_series(1, 20000) AS n;
       ANALYZE vcb.run; ANALYZE vcb.point;`,
      database,
    )
    const explain = (sql: string) => pgStatement<PgValue[], string>(`EXPLAIN ${numbered(sql)}`, (row: Row) => row.text('QUERY PLAN'))
    for (const [name, { sql, values }, indexes] of SEARCHES) {
      const plan = (await state.all(explain(sql), ...values)).join('\n')
      for (const index of indexes) expect(plan, name).toMatch(new RegExp(`Index Scan (?:using|on) ${index}\\b`, 'u'))
    }
  })
})
