import { hostname } from 'node:os'
import type { AgentId } from '../core/index.ts'
import { adoptMarked, findOrphans, type OrphanDeps, type OrphanSearch, type Removed, removeOrphans } from '../flow/index.ts'
import { findStrayFiles, type StrayFileSearch } from '../orphans/index.ts'
import type { Agent } from './agent.ts'
import type { SharedProxies } from './open-state.ts'
import { holdersOf } from './state-holders.ts'

export type OrphanRequest = {
  /** Remove what is proven ours. */
  readonly remove: boolean
  /** Look for files that no snapshot points to as well. */
  readonly files: boolean
  /** An agent whose marks the user takes responsibility for. */
  readonly named: AgentId | undefined
}

export type OrphanRun = OrphanSearch & {
  readonly vcenter: string
  readonly agent: AgentId
  /** Undefined when nothing was to be removed. */
  readonly removed: readonly Removed[] | undefined
  /** Undefined when they were not searched for. */
  readonly files: StrayFileSearch['files'] | undefined
  /** False when something is left that somebody should look at. */
  readonly clean: boolean
}

/** A snapshot of another product that is younger belongs to a backup under way. ms */
const PRODUCT_MAY_TAKE = 24 * 3_600_000

/** What is left behind at the configured vCenter or ESXi, and with `remove` the end of what is proven ours. */
export async function runOrphans(agent: Agent, request: OrphanRequest): Promise<OrphanRun> {
  const { signal } = agent
  const deps = await orphanDeps(agent)
  const search = await findOrphans(deps, { signal, named: request.named })
  const removed = request.remove ? await removeOrphans(deps, search.orphans, { signal }) : undefined
  const stray = request.files ? await findStrayFiles(deps.vsphere, { signal }) : undefined
  const gone = new Set(removed?.filter(({ result }) => result === 'removed').map(({ orphan }) => orphan))
  const old = new Date(agent.clock.now().getTime() - PRODUCT_MAY_TAKE)
  return {
    ...search,
    vcenter: deps.vsphere.host,
    agent: agent.marks.agent,
    unseen: [...search.unseen, ...(stray?.unseen ?? [])],
    removed,
    files: stray?.files,
    clean:
      search.orphans.every((orphan) => orphan.verdict.standing === 'inUse' || gone.has(orphan)) &&
      search.consolidation.length === 0 &&
      search.foreign.every(({ createdAt }) => new Date(createdAt) > old) &&
      (stray?.files.every(({ recent }) => recent) ?? true),
  }
}

/** After the journal was lost: takes over and releases what carries this installation's mark. Idempotent. */
export async function recoverLost(agent: Agent): Promise<readonly Removed[]> {
  return adoptMarked(await orphanDeps(agent), { signal: agent.signal })
}

async function orphanDeps(agent: Agent): Promise<OrphanDeps> {
  const { journal, locks, clock, log, marks, processes, config } = agent
  return {
    vsphere: await agent.vsphere(),
    journal,
    locks,
    job: (kind, args, work, options) => agent.job(kind, args, work, options),
    isAlive: (owner) => processes.isAlive(owner),
    others: () => (agent.proxies === undefined ? holdersOf(config.stateDirectory) : othersOf(agent, agent.proxies)),
    agent: marks.agent,
    host: hostname(),
    guest: agent.guest,
    clock,
    log,
  }
}

/** Processes of this installation, beside this one, that the database knows as living. */
async function othersOf({ marks }: Agent, { registry }: SharedProxies): Promise<readonly number[]> {
  const living = (await registry.list()).filter(({ state, agent }) => state === 'alive' && agent === marks.agent)
  return living.map(({ pid }) => pid).filter((pid) => pid !== process.pid)
}
