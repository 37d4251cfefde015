import { AgentError } from '../core/index.ts'
import { jobSubject, sameProcess } from '../journal/index.ts'
import type { Agent } from './agent.ts'
import type { SharedProxies } from './open-state.ts'

/** One process of a proxy that works on the shared database, as a list shows it. */
export type ProxyLine = {
  readonly name: string
  readonly kind: 'agent' | 'command'
  /** `silent`: alive as far as is known, and its last beat is too long ago to be sure. */
  readonly state: 'alive' | 'silent' | 'dead' | 'gone'
  readonly draining: boolean
  readonly host: string
  readonly pid: number
  readonly agent: string
  /** Undefined: all. */
  readonly sites: readonly string[] | undefined
  readonly transports: readonly string[]
  readonly since: string
  readonly lastBeat: string
  /** Its jobs that have not ended: `backup web01`. */
  readonly jobs: readonly string[]
}

export type ProxyList = {
  readonly database: string
  readonly proxies: readonly ProxyLine[]
  /** Names that take nothing new, whether a process of them runs or not. */
  readonly drained: readonly { readonly name: string; readonly by: string; readonly at: string }[]
}

/** Three beats and a little. Milliseconds. */
const SILENT_MS = 17_000

/** Who works on the shared database. `ended`: also those that died or ended within the last day. USAGE where this proxy is alone. */
export async function listProxies(agent: Agent, { ended }: { readonly ended: boolean }): Promise<ProxyList> {
  const { registry, drains, shown } = sharedOf(agent)
  await registry.declareDead()
  const [all, drained, open] = await Promise.all([registry.list(), drains.list(), agent.journal.unfinished()])
  // The newest beat is as near to the database's clock as can be had here.
  const now = Math.max(...all.map(({ beatAt }) => beatAt.getTime()), 0)
  const names = new Set(drained.map(({ name }) => name))
  const proxies = all
    .filter(({ state }) => ended || state === 'alive')
    .map((proxy): ProxyLine => {
      const { name, kind, host, pid, sites, transports, begunAt, beatAt } = proxy
      const silent = proxy.state === 'alive' && now - beatAt.getTime() > SILENT_MS
      const jobs = open
        .filter(({ owner }) => sameProcess(owner, proxy))
        .map((job) => [job.kind, jobSubject(job)].filter((word) => word !== undefined).join(' '))
      return {
        name,
        kind,
        state: silent ? 'silent' : proxy.state,
        draining: names.has(name),
        host,
        pid,
        agent: proxy.agent,
        sites,
        transports,
        since: begunAt.toISOString(),
        lastBeat: beatAt.toISOString(),
        jobs,
      }
    })
  return { database: shown, proxies, drained: drained.map(({ name, by, at }) => ({ name, by, at: at.toISOString() })) }
}

/** A proxy by name takes nothing new, and finishes what runs. NOT_FOUND for a name that no process had within the last day. */
export async function drainProxy(agent: Agent, name: string, by: string): Promise<void> {
  const { registry, drains } = sharedOf(agent)
  if (!(await registry.list()).some((proxy) => proxy.name === name)) throw unknown(name)
  await drains.drain(name, by)
}

/** It takes work again. NOT_FOUND when it was not drained. */
export async function resumeProxy(agent: Agent, name: string): Promise<void> {
  if (!(await sharedOf(agent).drains.resume(name))) throw unknown(name, 'drained')
}

const unknown = (name: string, how = 'known'): AgentError =>
  new AgentError('NOT_FOUND', `No proxy ${name} is ${how}.`, { subject: name, next: 'See "vcb agents --all".' })

function sharedOf({ proxies }: Agent): SharedProxies {
  if (proxies !== undefined) return proxies
  throw new AgentError('USAGE', 'This proxy works alone: no database is shared with others.', {
    next: 'Name one with "state.url" in vcb.yaml, as docs/many-proxies.md shows.',
  })
}
