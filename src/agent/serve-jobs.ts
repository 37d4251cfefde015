import type { RunRecord } from '../core/index.ts'
import { AfterCycle } from './after-cycle.ts'
import { copyWork } from './after-copy.ts'
import { retentionWork } from './after-retention.ts'
import type { Agent } from './agent.ts'
import { runAgent } from './agent-run.ts'
import type { AgentConfig } from './config/config.ts'
import { DEFAULT_REPOSITORY } from './config/repositories.ts'
import { createControl } from './control.ts'
import { Dispatcher } from './dispatcher.ts'
import { EventHub } from './event-hub.ts'
import { openDueClaims } from './open-due-claims.ts'
import type { AfterRun } from './run-ended.ts'
import { RunTotals } from './run-totals.ts'
import { startApi } from './start-api.ts'
import { takeOverDead } from './take-over.ts'

export type ServeOptions = {
  /** Aborted: nothing new begins, and it ends when what runs has ended. */
  readonly stop: AbortSignal
  /** Called when the time of running backups is over: aborts the agent's own signal. */
  readonly cancel: () => void
  readonly once: boolean
  /** Whether the control API is opened. */
  readonly api: boolean
  /** The configuration as its files say it now, for a reload. */
  readonly load: () => Promise<AgentConfig>
  readonly version: string
  readonly followers?: readonly AfterRun[] | undefined
  /** Called when it works. `where`: the control API. */
  readonly onReady?: ((where: string | undefined) => void) | undefined
}

/**
 * `vcb agent`: the jobs of the configuration as they are due, with the queue of several proxies where there is one, the control API, and a look for what dead
 * processes left. Returns, with `once`, what ran. Errors: CONFLICT (another agent), CONFIG, and what concerns all runs.
 */
export async function serveJobs(agent: Agent, options: ServeOptions): Promise<readonly RunRecord[]> {
  await using stack = new AsyncDisposableStack()
  const events = new EventHub()
  const totals = new RunTotals()
  let dispatcher: Dispatcher | undefined
  const claims = stack.use(await openDueClaims(agent, () => dispatcher?.config ?? agent.config))
  const isBusy = (repository: string): boolean =>
    [...(dispatcher?.running ?? []), ...(dispatcher?.waiting ?? [])].some(
      ({ job }) => (job?.repository ?? DEFAULT_REPOSITORY) === repository,
    )
  const config = (): AgentConfig => dispatcher?.config ?? agent.config
  const followers = [
    totals,
    // A copy first: what the policy takes away at once is to be in the other repository.
    new AfterCycle([copyWork(agent, config), retentionWork(agent, config)], isBusy, agent.log),
    ...(options.followers ?? []),
  ]
  dispatcher = stack.use(new Dispatcher({ agent, claims, followers, onEvent: (event) => events.tell(event) }))
  const control = createControl({ agent, dispatcher, events, totals, load: options.load, version: options.version })
  const { stop, cancel, once } = options
  return await runAgent({
    agent,
    dispatcher,
    stop,
    cancel,
    graceMs: agent.config.agent.graceMs,
    once,
    onReady: async () => {
      stack.use(takeOverDead(agent))
      const api = options.api ? stack.use(await startApi(agent, control, options.version)) : undefined
      options.onReady?.(api?.socket ?? (api?.port === undefined ? undefined : `port ${api.port}`))
    },
  })
}
