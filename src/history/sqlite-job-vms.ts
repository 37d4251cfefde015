import type { State } from '../state/index.ts'
import type { JobVms } from './job-vms.ts'
import { keyOf } from './vm-key.ts'

/** In the agent's database. */
export function openSqliteJobVms(state: State): JobVms {
  const of = state.statement<[string], { readonly key: string; readonly since: string }>(
    'SELECT vcenter_uuid, instance_uuid, since FROM job_vm WHERE job = ?',
    (row) => ({ key: keyOf(row.text('vcenter_uuid'), row.text('instance_uuid')), since: row.text('since') }),
  )
  const add = state.statement<[string, string, string, string]>(
    'INSERT INTO job_vm (job, vcenter_uuid, instance_uuid, since) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const remove = state.statement<[string, string, string]>('DELETE FROM job_vm WHERE job = ? AND vcenter_uuid = ? AND instance_uuid = ?')
  return Object.freeze({
    known: async (job: string, vms: Parameters<JobVms['known']>[1], at: Date) => {
      const before = new Map(of.all(job).map(({ key, since }) => [key, since]))
      const now = new Map(vms.map((vm) => [keyOf(vm.vcenterUuid, vm.instanceUuid), vm]))
      const gone = [...before.keys()].filter((key) => !now.has(key))
      const fresh = [...now].filter(([key]) => !before.has(key)).map(([, vm]) => vm)
      if (gone.length + fresh.length > 0) {
        state.note('VMs of a job known', () => {
          for (const key of gone) remove.run(job, ...partsOf(key))
          for (const { vcenterUuid, instanceUuid } of fresh) add.run(job, vcenterUuid, instanceUuid, at.toISOString())
        })
      }
      return vms.map(({ vcenterUuid, instanceUuid }) => {
        const since = before.get(keyOf(vcenterUuid, instanceUuid))
        return since === undefined ? at : new Date(since)
      })
    },
  })
}

function partsOf(key: string): [string, string] {
  const [vcenterUuid, instanceUuid] = JSON.parse(key) as [string, string]
  return [vcenterUuid, instanceUuid]
}
