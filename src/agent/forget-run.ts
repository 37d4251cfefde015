import { forgetPoints, type ForgetRequest, type ForgetResult, planForget } from '../flow/index.ts'
import type { Agent } from './agent.ts'

export type ForgetRunRequest = { readonly request: ForgetRequest; readonly dryRun: boolean }

/** Forgets restore points as one job; with `dryRun` only says what would be forgotten. Needs no vCenter. Errors as `forgetPoints`. */
export async function runForget(agent: Agent, { request, dryRun }: ForgetRunRequest): Promise<ForgetResult> {
  const points = await agent.points()
  const { url } = await agent.provider()
  const { journal, locks, catalog, clock, log, signal } = agent
  const deps = { points, url, journal, locks, catalog, clock, log }
  if (dryRun) {
    const plan = await planForget(deps, request, { signal })
    return { vms: plan.vms.map((vm) => ({ ...vm, forgotten: [] })), unreadable: plan.unreadable }
  }
  await agent.recoverFirst()
  return agent.job('forget', { repository: url }, (claims, cancel) => forgetPoints(deps, claims, request, { signal: cancel }))
}
