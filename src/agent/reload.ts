import { type AgentError, printable, toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { EventHub } from './event-hub.ts'
import type { Supervisor } from './supervisor.ts'

export type ReloadParts = {
  readonly agent: Agent
  readonly dispatcher: Dispatcher
  readonly events: EventHub
  readonly supervisor: Supervisor
  /** The configuration as its files say it now. CONFIG. */
  readonly load: () => Promise<AgentConfig>
}

/** Settings in force from now on, and those that wait for the next start. */
export type Reloaded = { readonly changed: readonly string[]; readonly later: readonly string[] }

/** Parts of vcb.yaml that a reload brings into force; the others wait for the next start. */
const RELOADED = ['jobs', 'repositories', 'notices', 'noRpoAgeMs'] as const

/**
 * Reads the configuration again, for `vcb reload` and SIGHUP alike; two at once follow one another. What runs goes on with its own; the next decision is made by the new
 * jobs. A file with a mistake changes nothing and is told in the log, to who watches, and to systemd. Errors: CONFIG and USAGE of the files.
 */
export function createReload(parts: ReloadParts): () => Promise<Reloaded> {
  let last: Promise<unknown> = Promise.resolve()
  return () => {
    const next = last.then(() => reload(parts))
    // Whoever asked gets its failure; the next one begins all the same.
    last = next.catch(() => undefined)
    return next
  }
}

async function reload({ agent, dispatcher, events, supervisor, load }: ReloadParts): Promise<Reloaded> {
  const tell = (level: 'info' | 'warn' | 'error', message: string): void =>
    events.tell({ type: 'notice', at: agent.clock.now().toISOString(), level, message })
  supervisor.reloading()
  let loaded: AgentConfig
  try {
    loaded = await load()
  } catch (error) {
    const shown: AgentError = toAgentError(error)
    agent.log.error('the configuration stays the old one', { error: shown.message })
    tell('error', `The configuration stays the old one: ${printable(shown.message)}`)
    supervisor.ready(`The configuration stays the old one: ${shown.message}`)
    throw error
  }
  const before = dispatcher.config
  const differs = (key: keyof AgentConfig): boolean => JSON.stringify(before[key]) !== JSON.stringify(loaded[key])
  const changed = RELOADED.filter(differs)
  const later = (Object.keys(loaded) as (keyof AgentConfig)[]).filter(
    (key) => !(RELOADED as readonly string[]).includes(key) && differs(key),
  )
  const { jobs, repositories, notices, noRpoAgeMs } = loaded
  if (changed.length > 0) dispatcher.configure(Object.freeze({ ...before, jobs, repositories, notices, noRpoAgeMs }))
  agent.log.info('the configuration was read again', { changed: changed.join(', ') })
  tell('info', `The configuration was read again: ${changed.length === 0 ? 'nothing in force is new' : changed.join(', ')}.`)
  if (later.length > 0) {
    agent.log.warn('some settings come into force when the agent is started anew', { settings: later.join(', ') })
    tell('warn', `These come into force when the agent is started anew: ${later.join(', ')}.`)
  }
  supervisor.ready('The configuration was read again.')
  return { changed, later }
}
