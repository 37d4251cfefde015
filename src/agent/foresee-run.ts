import { type AgentError, isAgentError, toAgentError, type VmRef } from '../core/index.ts'
import { type BackupForecast, type ForecastDeps, foreseeBackup } from '../flow/index.ts'
import { selectVms } from '../inventory/index.ts'
import { hasRepository } from '../provider/index.ts'
import { createSpaceGuard, noSpaceGuard } from '../snapshot/index.ts'
import type { Agent } from './agent.ts'
import type { BackupRunRequest } from './backup-run.ts'
import { createTransports } from './transports.ts'

/** `error`: the VM could not be looked at, or the first thing that would end its backup. */
export type VmForecast =
  | ({ readonly ok: boolean; readonly error: AgentError | undefined } & BackupForecast)
  | { readonly ok: false; readonly vm: VmRef; readonly error: AgentError; readonly refusals?: undefined }

export type ForecastRun = { readonly repository: string; readonly vms: readonly VmForecast[] }

/**
 * What `runBackup` would do with every VM an expression names. Changes nothing but the agent's own login and the opening of its state: nothing is recovered,
 * no job begun, no repository made. Throws what concerns the run as a whole, as `runBackup`.
 */
export async function runForecast(agent: Agent, request: Omit<BackupRunRequest, 'quiesce' | 'onProgress' | 'onVm'>): Promise<ForecastRun> {
  const { clock, config, log, signal } = agent
  const vsphere = await agent.vsphere()
  const vms = await selectVms(vsphere, request.expressions, { bulk: request.bulk, signal })
  const provider = await openOrForesee(agent, request.init)
  const transports = createTransports(agent, vsphere)
  await using spaceGuard = config.space.guard ? createSpaceGuard({ vsphere, clock, log, ...config.space }) : noSpaceGuard()
  const forecasts: VmForecast[] = []
  for (const vm of vms) {
    using space = spaceGuard.watch(vm)
    const wish = { vm, mode: request.mode, changeTracking: config.changeTracking, excludeDisks: request.excludeDisks }
    try {
      const forecast = await foreseeBackup({ vsphere, transports, space, clock, provider, locks: agent.locks }, wish, { signal })
      const [error] = forecast.refusals
      forecasts.push({ ok: error === undefined, error, ...forecast })
    } catch (error) {
      const shown = toAgentError(error)
      if (isAgentError(shown, 'CANCELED', 'INTERNAL')) throw error
      forecasts.push({ ok: false, vm, error: shown })
    }
  }
  return { repository: config.repository.url ?? '', vms: forecasts }
}

/** A repository that the run would make has no points yet. */
async function openOrForesee(agent: Agent, init: boolean): Promise<ForecastDeps['provider']> {
  const { url } = agent.config.repository
  if (init && url !== undefined && !/^(tar|dir):/.test(url) && !(await hasRepository(url, agent.placeDeps)))
    return { incremental: { ok: false, reason: 'the repository does not exist yet' }, points: undefined }
  return agent.provider()
}
