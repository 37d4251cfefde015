import { type AgentError, isAgentError, toAgentError, type VmRef } from '../core/index.ts'
import { locateVms, selectVms } from '../inventory/index.ts'
import type { Place, VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'
import type { JobConfig } from './config/jobs.ts'
import { openVmHistory, type VmHistory } from './vm-history.ts'

export type JobVm = { readonly vm: VmRef; readonly place: Place; readonly record: VmRecord }

/** A job with the VMs its expressions name now; `error`: they name none, and why. */
export type ResolvedJob = { readonly job: JobConfig; readonly vms: readonly JobVm[]; readonly error: AgentError | undefined }

export type ResolvedJobs = { readonly jobs: readonly ResolvedJob[]; readonly history: VmHistory }

/**
 * Which VMs the jobs have now, where they lie, and what is known of them at `at`. A job whose selection names nothing has its error, and the others their VMs.
 * Throws what concerns all of them, such as a connection.
 */
export async function resolveJobs(agent: Agent, jobs: readonly JobConfig[], at: Date): Promise<ResolvedJobs> {
  const { config, signal } = agent
  const vsphere = await agent.vsphere()
  const places = await locateVms(vsphere, { signal })
  const history = await openVmHistory(agent, at)
  const select = (expressions: readonly string[]): Promise<readonly VmRef[]> => selectVms(vsphere, expressions, { bulk: true, signal })
  const resolved: ResolvedJob[] = []
  for (const job of jobs) {
    const url = config.repositories.find(({ name }) => name === job.repository)?.url ?? ''
    try {
      const selected = await select(job.select)
      const apart = await groupsOf(job, select)
      const vms = await Promise.all(
        selected.map(async (vm): Promise<JobVm> => {
          const { host, datastores = [] } = places.get(vm.moref) ?? {}
          const groups = apart.filter(({ members }) => members.has(vm.moref)).map(({ name }) => name)
          return { vm, place: { vcenter: vm.vcenterUuid, host, datastores, apart: groups }, record: await history.recordOf(vm, url) }
        }),
      )
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
