import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'
import { listProxies } from './proxy-list.ts'

/** The database that proxies share: that it answers is known by now, because this command is one of them. */
export async function checkState(agent: Agent, findings: Finding[]): Promise<void> {
  const { proxies, config } = agent
  if (proxies === undefined) return
  const check = 'state database'
  const list = await listProxies(agent, { ended: true })
  const agents = list.proxies.filter(({ kind }) => kind === 'agent')
  const alive = agents.filter(({ state }) => state === 'alive')
  const silent = agents.filter(({ state }) => state === 'silent')
  const drained = list.drained.map(({ name }) => name)
  const detail = [
    `${proxies.shown} answers`,
    `${alive.length} agents alive`,
    ...(silent.length === 0 ? [] : [`silent: ${silent.map(({ name }) => name).join(', ')}`]),
    ...(drained.length === 0 ? [] : [`drained: ${drained.join(', ')}`]),
  ].join(', ')
  const twins = alive.filter(({ name, agent: id }) => alive.some((other) => other.name === name && other.agent !== id))
  if (twins.length > 0)
    findings.push({
      check,
      result: 'warning',
      detail: `${detail}; several proxies have the name ${twins[0]?.name}`,
      next: 'Give each its own "proxy.name" in vcb.yaml: drained they are by name.',
    })
  else findings.push({ check, result: 'ok', detail })
  const served = new Set(agents.flatMap(({ sites }) => sites ?? config.sites.map(({ name }) => name)))
  for (const { name } of config.sites) {
    if (agents.length > 0 && !served.has(name))
      findings.push({
        check: `site ${name}`,
        result: 'warning',
        detail: 'No agent serves it: its VMs are not backed up.',
        next: 'Name it in "proxy.sites" of an agent, or leave that out in one of them.',
      })
  }
}
