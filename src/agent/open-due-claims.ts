import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import { type DueClaims, soleAgent } from './due-claims.ts'
import { createServedVms } from './served-vms.ts'
import { SharedDueClaims } from './shared-due-claims.ts'
import { openPgQueue } from '../state/index.ts'

/**
 * Who of several agents runs what is due: the queue of the shared database, or this agent alone. Called once by `vcb agent`; disposed when nothing runs any more. `config`: the
 * one in force, which a reload may have changed. Errors: those of the database.
 */
export async function openDueClaims(agent: Agent, config: () => AgentConfig): Promise<DueClaims & AsyncDisposable> {
  const { proxies, clock, log } = agent
  if (proxies === undefined) return { ...soleAgent, [Symbol.asyncDispose]: async () => undefined }
  const { name, sites: served } = config().proxy
  const { sites, transports } = config()
  const vms = createServedVms({ clock, vsphere: () => agent.vsphere(), sites, served, transports })
  const queue = await openPgQueue({ ...proxies.access, clock, log, name, supervise: true })
  const claims = new SharedDueClaims({
    queue,
    drains: proxies.drains,
    clock,
    log,
    name,
    fenced: proxies.fenced,
    serves: (due) => vms.serves(due.vm, config().jobs.find((job) => job.name === due.job)?.transports),
  })
  return {
    take: (due) => claims.take(due),
    settle: (due, ran) => claims.settle(due, ran),
    [Symbol.asyncDispose]: async () => {
      await claims[Symbol.asyncDispose]()
      await queue[Symbol.asyncDispose]()
    },
  }
}
