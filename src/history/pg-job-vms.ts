import { type PgState, pgStatement } from '../state/index.ts'
import type { JobVms } from './job-vms.ts'
import { keyOf } from './vm-key.ts'

/** In the database that several proxies share; whichever of them sees a VM first decides. */
export function openPgJobVms(state: PgState): JobVms {
  return Object.freeze({
    known: async (job: string, vms: Parameters<JobVms['known']>[1], at: Date) => {
      const before = new Map((await state.all(SQL.of, job)).map(({ key, since }) => [key, since]))
      const now = new Set(vms.map((vm) => keyOf(vm.vcenterUuid, vm.instanceUuid)))
      const changed = [...before.keys()].some((key) => !now.has(key)) || [...now].some((key) => !before.has(key))
      const vcenters = vms.map(({ vcenterUuid }) => vcenterUuid)
      const instances = vms.map(({ instanceUuid }) => instanceUuid)
      const known = changed
        ? new Map(
            await state.transaction(
              'VMs of a job known',
              async (session) => {
                await session.run(SQL.remove, job, vcenters, instances)
                await session.run(SQL.add, job, vcenters, instances, at.toISOString())
                return (await session.all(SQL.of, job)).map(({ key, since }): [string, string] => [key, since])
              },
              { lock: `VMs of job ${job}` },
            ),
          )
        : before
      return vms.map(({ vcenterUuid, instanceUuid }) => {
        const since = known.get(keyOf(vcenterUuid, instanceUuid))
        return since === undefined ? at : new Date(since)
      })
    },
  })
}

type Known = { readonly key: string; readonly since: string }

const SQL = {
  of: pgStatement<[string], Known>('SELECT vcenter_uuid, instance_uuid, since FROM job_vm WHERE job = $1', (row) => ({
    key: keyOf(row.text('vcenter_uuid'), row.text('instance_uuid')),
    since: row.text('since'),
  })),
  remove: pgStatement<[string, readonly string[], readonly string[]]>(
    `DELETE FROM job_vm WHERE job = $1 AND (vcenter_uuid, instance_uuid) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))`,
  ),
  add: pgStatement<[string, readonly string[], readonly string[], string]>(
    `INSERT INTO job_vm (job, vcenter_uuid, instance_uuid, since) SELECT $1, v, i, $4 FROM unnest($2::text[], $3::text[]) AS u (v, i)
     ON CONFLICT DO NOTHING`,
  ),
}
