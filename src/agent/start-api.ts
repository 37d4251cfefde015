import { type AgentControl, type Api, openApi } from '../api/index.ts'
import type { Agent } from './agent.ts'

/** The control API as vcb.yaml sets it, before this control; for whoever runs for long. Dispose of it before the control. Errors: CONFIG, CONFLICT. */
export function startApi({ config, clock, log, random }: Agent, control: AgentControl, version: string): Promise<Api> {
  return openApi({ ...config.api, control, directory: config.stateDirectory, clock, log, random, version })
}
