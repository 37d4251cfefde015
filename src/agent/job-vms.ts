import { type AgentError, isAgentError, toAgentError, type VmRef } from '../core/index.ts'
import { locateVms, selectVms } from '../inventory/index.ts'
import type { Place, VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import type { JobConfig } from './config/jobs.ts'
import { VmRecords } from './vm-records.ts'

export type JobVm = { readonly vm: VmRef; readonly place: Place; readonly record: VmRecord }

/** A job with the VMs its expressions name now; `error`: they name none, and why. */
export type ResolvedJob = { readonly job: JobConfig; readonly vms: readonly JobVm[]; readonly error: AgentError | undefined }

export type ResolvedJobs = { readonly jobs: readonly ResolvedJob[]; readonly history: VmRecords }

export type ResolveOptions = {
  /** What is known already; read anew when absent. */
  readonly records?: VmRecords | undefined
  /** Notes since when each job knows its VMs: for who runs them, not for who only looks. */
  readonly remember?: boolean | undefined
}

/**
 * Which VMs the jobs have now, where they lie, and what is known of them at `at`. A job whose selection names nothing has its error, and the others their VMs.
 * Throws what concerns all of them, such as a connection.
 */
export async function resolveJobs(
  agent: Agent,
  jobs: readonly JobConfig[],
  at: Date,
  { records, remember = false }: ResolveOptions = {},
): Promise<ResolvedJobs> {
  const { config, signal } = agent
  const vsphere = await agent.vsphere()
  const places = await locateVms(vsphere, { signal })
  const history = records ?? (await VmRecords.open(agent, at))
  const select = (expressions: readonly string[]): Promise<readonly VmRef[]> => selectVms(vsphere, expressions, { bulk: true, signal })
  const resolved: ResolvedJob[] = []
  for (const job of jobs) {
    const url = config.repositories.find(({ name }) => name === job.repository)?.url ?? ''
    try {
      const selected = await select(job.select)
      const apart = await groupsOf(job, select)
      const since = remember ? await agent.jobVms.known(job.name, selected, at) : []
      const vms = selected.map((vm, index): JobVm => {
        const { host, datastores = [] } = places.get(vm.moref) ?? {}
        const groups = apart.filter(({ members }) => members.has(vm.moref)).map(({ name }) => name)
        const record = history.recordOf(job.name, vm, url, since[index])
        return { vm, place: { vcenter: vm.vcenterUuid, host, datastores, apart: groups }, record }
      })
      resolved.push({ job, vms, error: undefined })
    } catch (error) {
      if (!isAgentError(error, 'NOT_FOUND', 'USAGE')) throw error
      resolved.push({ job, vms: [], error: toAgentError(error) })
    }
  }
  return { jobs: resolved, history }
}

type Group = { readonly name: string; readonly members: ReadonlySet<string> }

/** Groups of the same expressions are one group, whatever the job. An expression that names nothing (yet) keeps nobody apart. */
async function groupsOf(
  { apart }: JobConfig,
  select: (expressions: readonly string[]) => Promise<readonly VmRef[]>,
): Promise<readonly Group[]> {
  const groups: Group[] = []
  for (const expressions of apart) {
    const members = new Set<string>()
    for (const expression of expressions) {
      try {
        for (const { moref } of await select([expression])) members.add(moref)
      } catch (error) {
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      }
    }
    groups.push({ name: expressions.join(' '), members })
  }
  return groups
}
